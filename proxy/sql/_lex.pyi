"""A resumable scanner over SQL text: which session state can this text touch?"""

from collections.abc import Iterable
from enum import IntEnum

SIZE: int
DROP_DATABASE: int
TRANSACTION_START: int
EMPTY: int
EFFECTS: int
TRANSACTION_END: int
ENDS: int
LOCAL: int
LAST_INSERT_ID: int
LAST_INSERT_ID_SET: int
FOUND_ROWS: int
CALC_FOUND_ROWS: int
ROW_COUNT: int
DIAGNOSTICS: int
USE_DATABASE: int
MULTIPLE: int

class Dialect(IntEnum):
    POSTGRESQL = 0
    MYSQL = 1
    MYSQL_ANSI = 2

def scan(
    text: bytes,
    std_strings: bool = True,
    ascii_safe: bool = True,
    cuts: Iterable[int] = (),
    dialect: int = ...,
) -> tuple[int, bytes]: ...
