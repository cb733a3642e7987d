"""The scanner says the same of a text in any pieces, and reads words, strings and comments as a second scanner does.

Input: a byte (standard_conforming_strings, ASCII-safe encoding, raw or made of fragments), then the text, or one byte
per fragment.
"""

from proxy.sql._lex import DROP_DATABASE, scan
from tests.fuzz import mutate as mutators
from tests.unit.sql.lex_cases import CASES
from tests.unit.sql.lex_reference import reference
from tests.unit.sql.test_lex import FRAGMENTS

RAW = 4


def seeds() -> list[bytes]:
    texts = [bytes([RAW | (not case.std_strings)]) + case.text for case in CASES]
    return texts + [
        bytes([facts]) + bytes(range(at, at + 12)) for facts in (0, 1) for at in range(0, len(FRAGMENTS), 6)
    ]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    changed = mutators.behind(mutators.raw)(rng, data, pool)
    if changed[0] & RAW and rng.random() < 0.5:
        at = rng.randrange(1, len(changed) + 1)
        changed = changed[:at] + b"".join(rng.choices(FRAGMENTS, k=3)) + changed[at:]
    return changed[:5000]


def check(data: bytes) -> None:
    facts = data[0] if data else 0
    std_strings, ascii_safe, text = not facts & 1, facts & 2 == 0, data[1:]
    if not facts & RAW:
        text = b"".join(FRAGMENTS[byte % len(FRAGMENTS)] for byte in text[:100])
        if ascii_safe:
            assert scan(text, std_strings)[0] == reference(text, std_strings), text
    expected = scan(text, std_strings, ascii_safe)
    assert 0 <= len(expected[1]) < 64
    assert bool(expected[1]) <= bool(expected[0] & DROP_DATABASE)
    rng = mutators.of(data)
    splits = [sorted(rng.choices(range(len(text) + 1), k=n)) for n in (1, 2, 6)]
    for cuts in (range(len(text) + 1), *splits):
        assert scan(text, std_strings, ascii_safe, cuts=cuts) == expected, (text, list(cuts)[:50])
