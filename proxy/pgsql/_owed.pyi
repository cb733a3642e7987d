from enum import IntEnum

class OwedKind(IntEnum):
    OWED_NOTHING = 0
    OWED_QUERY = 1
    OWED_FUNCTION = 2
    OWED_SYNC = 3
    OWED_PARSE = 4
    OWED_BIND = 5
    OWED_DESCRIBE = 6
    OWED_EXECUTE = 7
    OWED_CLOSE = 8
    OWED_COPY_END = 9
    OWED_KIND = 0x0F
    OWED_MAYBE = 0x40
    OWED_SWALLOW = 0x80

class Verdict(IntEnum):
    REPLY_FORWARD = 0
    REPLY_SWALLOW = 1
    REPLY_VIOLATION = 2

class CopyState(IntEnum):
    COPY_NONE = 0
    COPY_IN = 1
    COPY_OUT = 2
    COPY_BOTH = 3

class OwedDoor:
    def __init__(self) -> None: ...
    def request(self, entry: int, argument: int = 0) -> None: ...
    def reply(self, kind: bytes) -> Verdict: ...
    @property
    def entries(self) -> list[int]: ...
    @property
    def lost(self) -> list[int]: ...
    @property
    def answered(self) -> int: ...
    @property
    def copy(self) -> CopyState: ...
    @property
    def skipping(self) -> bool: ...
    @property
    def in_doubt(self) -> bool: ...
