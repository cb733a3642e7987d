"""What is left of a session on a server, asked in one query."""

from collections.abc import Iterable

from proxy.reasons import PinReason

class LeftoversDoor:
    @staticmethod
    def askable() -> set[PinReason]: ...
    @staticmethod
    def ask(pins: Iterable[PinReason], settings: bool = True) -> bytes: ...
    @staticmethod
    def answer(row: bytes) -> tuple[set[PinReason], bytes] | None: ...
