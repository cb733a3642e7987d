"""The scanner says the same of a text in any pieces, and reads words, strings and comments as a second scanner does.

Input: a byte (standard_conforming_strings or NO_BACKSLASH_ESCAPES, ASCII-safe encoding, raw or made of fragments,
dialect), then the text, or one byte per fragment.
"""

from proxy.sql._lex import DROP_DATABASE, USE_DATABASE, Dialect, scan
from tests.fuzz import mutate as mutators
from tests.unit.sql import test_lex, test_lex_mysql
from tests.unit.sql.lex_cases import CASES
from tests.unit.sql.lex_reference import reference
from tests.unit.sql.mysql_cases import CASES as MYSQL_CASES
from tests.unit.sql.mysql_reference import reference as mysql_reference

RAW = 4
DIALECT = 8  # times Dialect; what is none is PostgreSQL, the lowest bits are those of older findings
FRAGMENTS = {
    Dialect.POSTGRESQL: test_lex.FRAGMENTS,
    Dialect.MYSQL: test_lex_mysql.FRAGMENTS,
    Dialect.MYSQL_ANSI: test_lex_mysql.FRAGMENTS,
}


def dialect_of(facts: int) -> Dialect:
    number = facts // DIALECT & 3
    return Dialect(number) if number in FRAGMENTS else Dialect.POSTGRESQL


def seeds() -> list[bytes]:
    texts = [bytes([RAW | (not case.std_strings)]) + case.text for case in CASES]
    texts += [bytes([RAW | (not case.escapes) | DIALECT * case.dialect]) + case.text for case in MYSQL_CASES]
    return texts + [
        bytes([std | DIALECT * dialect]) + bytes(range(at, at + 12))
        for std in (0, 1)
        for dialect, fragments in FRAGMENTS.items()
        for at in range(0, len(fragments), 6)
    ]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    changed = mutators.behind(mutators.raw)(rng, data, pool)
    if changed[0] & RAW and rng.random() < 0.5:
        at = rng.randrange(1, len(changed) + 1)
        changed = changed[:at] + b"".join(rng.choices(FRAGMENTS[dialect_of(changed[0])], k=3)) + changed[at:]
    return changed[:5000]


def check(data: bytes) -> None:
    facts = data[0] if data else 0
    std_strings, ascii_safe, dialect, text = not facts & 1, facts & 2 == 0, dialect_of(facts), data[1:]
    if dialect != Dialect.POSTGRESQL:
        std_strings = not std_strings
    if not facts & RAW:
        text = b"".join(FRAGMENTS[dialect][byte % len(FRAGMENTS[dialect])] for byte in text[:100])
        if ascii_safe and dialect == Dialect.POSTGRESQL:
            assert scan(text, std_strings)[0] == reference(text, std_strings), text
        elif ascii_safe:
            expected = mysql_reference(text, not std_strings, dialect)
            assert expected is None or scan(text, std_strings, dialect=dialect)[0] == expected, text
    whole = scan(text, std_strings, ascii_safe, dialect=dialect)
    assert 0 <= len(whole[1]) <= 64
    assert bool(whole[1]) <= bool(whole[0] & (DROP_DATABASE | USE_DATABASE))
    rng = mutators.of(data)
    splits = [sorted(rng.choices(range(len(text) + 1), k=n)) for n in (1, 2, 6)]
    for cuts in (range(len(text) + 1), *splits):
        assert scan(text, std_strings, ascii_safe, cuts=cuts, dialect=dialect) == whole, (text, list(cuts)[:50])
