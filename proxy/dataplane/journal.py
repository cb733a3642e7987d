"""Who came, who went, who was pinned: log lines that are written a moment later, many in one go.

One line costs more than the cryptography of a login when its code is cold, and a busy proxy writes two per client. Each
line keeps the time at which it was said. Order within the journal is kept; a line of another module may stand before an
older one of these. Belongs to the front thread.
"""

import asyncio
import logging
import time
from typing import Any

_DELAY_S = 0.1


class Journal:
    __slots__ = ("_lines", "_log", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, log: logging.Logger) -> None:
        self._loop = loop
        self._log = log
        self._lines: list[tuple[float, int, str, tuple[Any, ...], dict[str, Any]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, level: int, text: str, *args: object, **about: object) -> None:
        """As `log.log(level, text, *args, extra=about)`."""
        if not self._log.isEnabledFor(level):
            return
        self._lines.append((time.time(), level, text, args, about))
        if self._timer is None:
            self._timer = self._loop.call_later(_DELAY_S, self.write)

    def write(self) -> None:
        """Everything noted so far; also at the end, or the last lines would be lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        log = self._log
        for at, level, text, args, about in lines:
            record = log.makeRecord(log.name, level, "", 0, text, args, None, extra=about)
            record.created = at
            log.handle(record)
