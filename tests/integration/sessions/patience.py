"""A limit on shrinking, which knows no clock: some failures here cost seconds each (a client that waits in vain).

Once `seconds` have passed since the first failure, only examples that have failed before fail again, with the error
they had; everything else passes unseen. Hypothesis then settles on the smallest it has.
"""

import time
from collections.abc import Callable


class Patience:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = float("inf")
        self._failed: dict[str, BaseException] = {}

    def run(self, example: str, check: Callable[[], None]) -> None:
        if time.monotonic() > self._until:
            if example in self._failed:
                raise self._failed[example]
            return
        try:
            check()
        except AssertionError as error:
            self._until = min(self._until, time.monotonic() + self._seconds)
            self._failed[example] = error
            raise
