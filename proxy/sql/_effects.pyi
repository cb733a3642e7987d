"""What a text does to the session it runs in, statement by statement."""

from enum import IntEnum

class EffectKind(IntEnum):
    EFFECT_NONE = 0
    EFFECT_SET = 1
    EFFECT_RESET = 2
    EFFECT_RESET_ALL = 3
    EFFECT_DISCARD_ALL = 4
    EFFECT_ASK = 5
    EFFECT_UNKNOWN = 6
    EFFECT_ROLLBACK_TO = 7
    EFFECT_DEALLOCATE = 8
    EFFECT_DEALLOCATE_ALL = 9
    EFFECT_DISCARD_SEQUENCES = 10

def effects(text: bytes, std_strings: bool = True) -> list[tuple[EffectKind, int, str, bytes]]: ...
def statements(text: bytes, std_strings: bool = True) -> int: ...
