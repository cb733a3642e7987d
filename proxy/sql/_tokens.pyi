"""The tokens of a text that is there as a whole."""

from enum import IntEnum

class Kind(IntEnum):
    K_END = 0
    K_UNREADABLE = 1
    K_WORD = 2
    K_NAME = 3
    K_LITERAL = 4
    K_PARAMETER = 5
    K_OPEN = 6
    K_CLOSE = 7
    K_COMMA = 8
    K_SEMICOLON = 9
    K_SIGN = 10
    K_OTHER = 11

def tokens(
    text: bytes, start: int = ..., dialect: int = ..., std_strings: bool = ..., limit: int = ...
) -> list[tuple[int, int, int]]: ...
