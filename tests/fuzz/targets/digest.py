"""A digest is never longer than its limit, has no byte of a literal, and is its own digest.

Input: a byte (standard_conforming_strings or NO_BACKSLASH_ESCAPES, raw or made of fragments, dialect), a byte (limit),
then the text, or one byte per fragment. Literals are checked against a second implementation, for fragments.
"""

import re

from proxy.sql._digest import digest, digest_hash
from proxy.sql._lex import Dialect
from tests.fuzz import mutate as mutators
from tests.unit.sql import test_digest
from tests.unit.sql.digest_reference import reference

RAW = 2
DIALECT = 4  # times Dialect; what is none is PostgreSQL
LONG = 1 << 20


def facts_of(byte: int) -> tuple[bool, bool, Dialect]:
    number = byte // DIALECT & 3
    return bool(byte & 1), bool(byte & RAW), Dialect(number) if number < len(Dialect) else Dialect.POSTGRESQL


def fragments(dialect: Dialect) -> list[bytes]:
    return test_digest.FRAGMENTS[Dialect.POSTGRESQL if dialect == Dialect.POSTGRESQL else Dialect.MYSQL]


def seeds() -> list[bytes]:
    texts = [
        bytes([RAW | std_strings | DIALECT * dialect, 30]) + text for dialect, std_strings, text, _ in test_digest.TABLE
    ]
    return texts + [
        bytes([std | DIALECT * dialect, 20]) + bytes(range(at, at + 12))
        for std in (0, 1)
        for dialect in Dialect
        for at in range(0, len(fragments(dialect)), 6)
    ]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    changed = mutators.behind(mutators.raw, 2)(rng, data, pool)
    _, is_raw, dialect = facts_of(changed[0])
    if is_raw and rng.random() < 0.5:
        at = rng.randrange(2, len(changed) + 1)
        changed = changed[:at] + b"".join(rng.choices(fragments(dialect), k=3)) + changed[at:]
    return changed[:5000]


def check(data: bytes) -> None:
    head = data[:2].ljust(2, b"\0")
    std_strings, is_raw, dialect = facts_of(head[0])
    limit, text = head[1], data[2:]
    if not is_raw:
        some = fragments(dialect)
        text = b"".join(some[byte % len(some)] for byte in text[:100])
    whole = digest(text, dialect, std_strings, limit=LONG)
    assert digest_hash(text, dialect, std_strings) == test_digest.fnv1a(whole)
    cut = digest(text, dialect, std_strings, limit=limit)
    assert len(cut) <= limit
    assert cut == whole if len(whole) <= limit else whole.startswith(cut[: max(limit - 6, 0)]), text
    # MySQL's `---- ` is two signs and a comment, and a text cut short is not there to be read again
    if not whole.endswith(b"...") and (dialect == Dialect.POSTGRESQL or b"--" not in whole):
        assert digest(whole, dialect, std_strings, limit=LONG) == whole, text
    if not is_raw:
        expected = reference(text, dialect, std_strings)
        found = re.sub(rb"[ \t\n\r]", b"", whole)
        early = found.endswith(b"...") and b"/*!" in text
        if expected is not None:
            assert found == expected or (early and expected.startswith(found[:-3])), text
