from enum import IntEnum

from proxy._wire import Step

class FrontendFault(IntEnum):
    FE_OK = 0
    FE_UNKNOWN_TYPE = 1
    FE_BAD_LENGTH = 2
    FE_BAD_NAME = 3

class FrontendDoor:
    def __init__(self, std_strings: bool = True, ascii_safe: bool = True) -> None: ...
    @property
    def fault(self) -> FrontendFault: ...
    @property
    def kept(self) -> int: ...
    def feed(self, data: bytes) -> list[tuple[Step, int, str, bool, bool, int]]: ...
