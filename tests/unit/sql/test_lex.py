"""The SQL scanner: each text of the table, in every split; a second scanner; and what holds for any bytes at all."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.reasons import PinReason
from proxy.sql._boring import masks
from proxy.sql._lex import EFFECTS, ENDS, LOCAL, SIZE, TRANSACTION_END, scan
from tests.unit.sql.lex_cases import CASES, bit
from tests.unit.sql.lex_reference import reference

PINS = 0xFFFFFFFF

# pieces whose ends and beginnings are easily taken for each other
FRAGMENTS = [
    *rb"""' '' \ \' E' e' B' x' n' U&' u&" u& " "" $$ $a$ $A$ $a $ab$ $ _$ $1 /* */ /*/ -- ; ( ) , . || - +""".split(),
    *rb"""* / 1 1. 1e 1e- .5 [ : = a e b U 'a' 'it''s' e'\'' $$'$$ "a""b" select load NextVal "nextval" x""".split(),
    *[blank.encode() for blank in " \n\r\t\f\v"],
    *[b"\xc3\xa9", b"\xff", b"/* ' */", b"-- '\n", b"'a'\n'b'", b"'a' -- x\r '", b"pg_temp", b"pg_temp_3"],
    *[b"listen c", b";listen c", b"; discard all", b"nextval("],
]

BORING = b"select a, b.c from t as b where x = $1 and (y > 2.5 or z in (3, 4)) and n = 'it' order by 1 limit 10;"
PLAIN = [
    *b"a , . = * ( ) $1 $12 1 10 2.5 'it' order customer_id price status limit name interest _x a$b -> ||".split(),
    *[b'"a b"', b"\xc3\xa9t\xc3\xa9"],
    *[b"a" * n for n in (2, 7, 30, 63, 64, 65, 130)],
]
ENDS_OF_TEXTS = [b"", b"; listen c", b"select nextval('a')", b" into temp x"]
QUOTES = [rb"u&'' nextval(", rb'U&"" x', rb"e'' load", b"$a$'$a$ into temp x", b"-- '\n;listen c", b"1e'5", b"'a'\n'b'"]


def cuts_of(text: bytes, rng: random.Random) -> list[list[int]]:
    """Byte by byte, each single cut, and some at random."""
    size = len(text)
    several = [sorted(rng.choices(range(size + 1), k=rng.randint(2, 6))) for _ in range(20)]
    return [list(range(size + 1)), *([cut] for cut in range(size + 1)), *several]


def names(mask: int) -> str:
    return " ".join([reason.name for reason in PinReason if mask >> reason & 1] + [hex(mask >> 32 << 32)])


@pytest.mark.edge_case(40, 48, 51, 52)
@pytest.mark.parametrize("expected", dict.fromkeys(names(case.mask) for case in CASES))
def test_table_in_every_split(expected: str) -> None:
    for case in CASES:
        if names(case.mask) != expected:
            continue
        mask, database = scan(case.text, case.std_strings)
        assert (names(mask), database) == (expected, case.database), case
        for cuts in cuts_of(case.text, random.Random(case.text)):
            assert scan(case.text, case.std_strings, cuts=cuts) == (mask, database), f"{case} cut at {cuts}"


def test_table_is_large_and_says_everything_once() -> None:
    assert len(CASES) >= 150
    seen = [(case.text, case.std_strings) for case in CASES]
    assert [text for text in seen if seen.count(text) > 1] == []


@pytest.mark.edge_case(40)
@pytest.mark.parametrize(
    "before", [b";", b"select 1;", b"/* ' */ -- $$\n", b"select $$;$$, ';', \"a\";", b"select (1), e'\\\\';\t", BORING]
)
def test_nothing_in_front_of_a_statement_hides_it(before: bytes) -> None:
    for case in CASES:
        mask, _ = scan(before + case.text, case.std_strings)
        kept = PINS | EFFECTS | ENDS | TRANSACTION_END
        assert names(mask & case.mask & kept) == names(case.mask & kept), case


@pytest.mark.edge_case(39)
def test_set_local_and_set_transaction_are_no_session_settings() -> None:
    assert scan(b"SET LOCAL search_path = a; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED") == (LOCAL, b"")


def test_encodings_that_hide_ascii_bytes_are_not_read() -> None:
    encoding = bit(PinReason.PIN_ENCODING)
    for text in (b"", b"select 1", b"set x = 1", b"'", b"\x83\x5c'; set x = 1"):
        assert scan(text, ascii_safe=False) == (encoding, b"")
        assert scan(text, ascii_safe=False, cuts=range(len(text))) == (encoding, b"")


def test_state_is_small_enough_for_every_session() -> None:
    assert SIZE <= 192


def test_long_texts_of_each_kind() -> None:
    """Interiors longer than any buffer, in pieces of the size a relay reads."""
    long = 200_000
    listen = bit(PinReason.PIN_LISTEN)
    for opening, inside, closing in (
        (b"select '", b"a''", b"'"),
        (b"select e'", b"\\'", b"'"),
        (b'select "', b'a""', b'"'),
        (b"select $a$", b"$b$", b"$a$"),
        (b"/*", b"/**/", b"*/"),
        (b"--", b"'", b"\n"),
        (b"select ", b"x", b""),
        (b"select ", b"1", b""),
        (b"select ", b"(", b")" * long),
    ):
        text = opening + inside * (long // len(inside)) + closing + b"; listen c"
        assert scan(text)[0] == listen, opening
        assert scan(text, cuts=range(0, len(text), 16384))[0] == listen, opening


def test_second_scanner_agrees_on_random_texts() -> None:
    rng = random.Random(20261122)
    kinds = set()
    for _ in range(6000):
        text = b"".join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))
        std_strings = rng.random() < 0.7
        expected = reference(text, std_strings)
        kinds.add(expected)
        assert names(scan(text, std_strings)[0]) == names(expected), (text, std_strings)
        cuts = sorted(rng.choices(range(len(text) + 1), k=3))
        assert scan(text, std_strings, cuts=cuts)[0] == expected, (text, std_strings, cuts)
    assert len(kinds) > 12  # the generator still reaches the interesting corners


def test_blocks_are_seen_alike_by_both_ways_of_looking() -> None:
    rng = random.Random(5)
    for n in range(256):
        one, other = masks(bytes([n]) * 64)
        assert one == other, n
    for _ in range(500):
        one, other = masks(rng.randbytes(64))
        assert one == other


def test_fast_lane_says_what_the_scanner_says_byte_by_byte() -> None:
    """Pieces of less than 16 bytes never take the fast lane."""
    rng = random.Random(20261125)
    kinds = set()
    for _ in range(2500):
        words = rng.choices(PLAIN, k=rng.randint(5, 40)) + rng.choices(FRAGMENTS, k=rng.randint(0, 3))
        rng.shuffle(words)
        glue = rng.choice([b" ", b" ", b""])
        text = b"select 1 " + glue.join(words) + rng.choice(ENDS_OF_TEXTS)
        std_strings = rng.random() < 0.8
        whole = scan(text, std_strings)
        kinds.add(whole)
        assert scan(text, std_strings, cuts=range(len(text))) == whole, (text, std_strings)
        cuts = sorted(rng.choices(range(len(text) + 1), k=2))
        assert scan(text, std_strings, cuts=cuts) == whole, (text, std_strings, cuts)
    assert len(kinds) > 6


@pytest.mark.parametrize("std_strings", [True, False])
def test_no_place_in_a_block_hides_anything(std_strings: bool) -> None:
    for end in QUOTES:
        for before in range(80):
            text = b"select 1 " + b"x" * before + b" " + end + b" and so on and so on"
            assert scan(text, std_strings) == scan(text, std_strings, cuts=range(len(text))), text


def test_second_scanner_agrees_on_the_table() -> None:
    """Where the table asks for nothing but what the reference knows."""
    known = bit(PinReason.PIN_LISTEN, PinReason.PIN_LOAD, PinReason.PIN_SEQUENCE, PinReason.PIN_UNREADABLE)
    for case in CASES:
        if len(case.text) > 140 or b"uescape" in case.text.lower() or b"t" * 65 in case.text:
            continue
        assert reference(case.text, case.std_strings) & known == case.mask & known, case.text


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=14), st.booleans(), st.data())
def test_any_split_of_any_bytes_gives_the_same(pieces: list[bytes], std_strings: bool, data: st.DataObject) -> None:
    text = b"".join(pieces)
    whole = scan(text, std_strings)
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    assert scan(text, std_strings, cuts=cuts) == whole
    assert scan(text, std_strings, cuts=range(len(text))) == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.booleans())
def test_second_scanner_agrees(pieces: list[bytes], std_strings: bool) -> None:
    text = b"".join(pieces)
    assert names(scan(text, std_strings)[0]) == names(reference(text, std_strings)), text
