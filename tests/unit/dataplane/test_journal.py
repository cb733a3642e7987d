"""Lines written later keep their time, their order and what they are about."""

import logging
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from proxy.dataplane.journal import Journal


class Loop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, _delay: float, callback: Callable[[], None]) -> "Loop":
        self.later.append(callback)
        return self

    def cancel(self) -> None:
        pass


def test_lines_are_written_later_with_their_own_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loop, before = Loop(), time.time()
    journal = Journal(cast(Any, loop), logging.getLogger("journal"))
    journal.note(logging.INFO, "A new client connected from %s.", "10.0.0.1:5", endpoint="default", client=128)
    journal.note(logging.WARNING, "second", client=256)
    noted = time.time()
    assert caplog.records == []
    assert len(loop.later) == 1, "one timer for all"
    loop.later[0]()
    first, second = caplog.records
    assert first.getMessage() == "A new client connected from 10.0.0.1:5."
    assert (first.endpoint, first.client) == ("default", 128)  # type: ignore[attr-defined]
    assert (second.getMessage(), second.levelno) == ("second", logging.WARNING)
    assert before <= first.created <= second.created <= noted
    journal.note(logging.INFO, "third")
    assert len(loop.later) == 2


def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    loop = Loop()
    journal = Journal(cast(Any, loop), logging.getLogger("journal"))
    journal.note(logging.INFO, "nobody reads this")
    assert loop.later == []
    journal.write()
    assert caplog.records == []
