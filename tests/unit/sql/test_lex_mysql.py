"""The scanner of MySQL's SQL: each text of the table, in every split; a second scanner; what holds for any bytes."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.reasons import PinReason
from proxy.sql._lex import MULTIPLE, Dialect, scan
from tests.unit.sql.lex_cases import bit
from tests.unit.sql.mysql_cases import CASES, MysqlCase
from tests.unit.sql.mysql_reference import reference
from tests.unit.sql.test_lex import PINS, cuts_of, names

DIALECTS = (Dialect.MYSQL, Dialect.MYSQL_ANSI)

# pieces whose ends and beginnings are easily taken for each other
FRAGMENTS = [
    *rb"""' '' \ \' \" " "" ` `` /* */ /*! /*!4 /*!40000 /*!80000 /*M! /*+ -- # ; ( ) , . @ @@ := : = + -""".split(),
    *rb"""1 1. 1e 1e- 1e5 .5 0x a e M b'1' x'1' N'a' 'it''s' '\'' "\"" "a" `a` `a``b` into get_lock""".split(),
    *b"--- /*/ * / select x _utf8".split(),
    *[blank.encode() for blank in " \n\r\t\f\v\0"],
    *[b"\xc3\xa9", b"\xff", b"\x01", b"\x7f", b"/* ' */", b"-- '\n", b"# `\n", b"/*! + 1 */", b"`get_lock`"],
    *[b"xa start 1", b";xa start 1", b"; handler t open", b"get_lock(", b" into @x", b"@x := 1"],
]


def read(case: MysqlCase, cuts: list[int] | range | tuple[int, ...] = ()) -> tuple[int, bytes]:
    return scan(case.text, not case.escapes, cuts=cuts, dialect=case.dialect)


@pytest.mark.edge_case(80, 81, 82, 83, 84, 89, 91)
@pytest.mark.parametrize("expected", dict.fromkeys(names(case.mask) for case in CASES))
def test_table_in_every_split(expected: str) -> None:
    for case in CASES:
        if names(case.mask) != expected:
            continue
        mask, database = read(case)
        assert (names(mask), database) == (expected, case.database), case
        for cuts in cuts_of(case.text, random.Random(case.text)):
            assert read(case, cuts) == (mask, database), f"{case} cut at {cuts}"


def test_table_is_large_and_says_everything_once() -> None:
    assert len(CASES) >= 300
    seen = [(case.text, case.escapes, case.dialect) for case in CASES]
    assert [text for text in seen if seen.count(text) > 1] == []


def test_both_ways_to_quote_read_the_same_where_none_is_double_quoted() -> None:
    for case in CASES:
        if b'"' not in case.text:
            assert read(case) == read(case._replace(dialect=Dialect.MYSQL_ANSI)), case


@pytest.mark.parametrize(
    "before",
    [b";", b"select 1;", b"/* ' */ -- `\n", b"select `;`, ';', \"a\";", b"select (1), '\\\\';\t", b"/*! do 1; */"],
)
def test_nothing_in_front_of_a_statement_hides_it(before: bytes) -> None:
    for case in CASES:
        text = (before if case.escapes else before.replace(b"\\", b"")) + case.text
        mask, _ = scan(text, not case.escapes, dialect=case.dialect)
        assert names(mask & case.mask & PINS) == names(case.mask & PINS), case


@pytest.mark.parametrize("version", [b"", b"40101", b"50699"])
def test_a_comment_that_is_sql_for_all_is_its_text(version: bytes) -> None:
    for case in CASES:
        whole = case.mask & bit(PinReason.PIN_UNREADABLE) == 0 and b"/*" not in case.text and b"*/" not in case.text
        if not whole or b"#" in case.text or b"--" in case.text or case.text[:1].isdigit():
            continue
        inside = case._replace(text=b"/*!" + version + b" " + case.text + b"*/")
        assert read(inside) == (case.mask, case.database), inside


@pytest.mark.parametrize("opening", [b"/*!80000 ", b"/*!50700 ", b"/*!100100 ", b"/*M! ", b"/*!1 "])
def test_a_comment_that_is_sql_for_some_hides_nothing(opening: bytes) -> None:
    """Whatever the comment holds, the pins of both readings are there, or the text is called unreadable."""
    unreadable = bit(PinReason.PIN_UNREADABLE)
    texts = [case.text for case in CASES if b"*/" not in case.text and case.mask & unreadable == 0 and case.escapes]
    rng = random.Random(20261125)
    for _ in range(6000):
        before, inside, behind = (rng.choice([b"", *texts]) for _ in range(3))
        if rng.random() < 0.5:  # in the middle of a statement
            split = rng.randrange(len(before) + 1)
            before, behind = before[:split], before[split:]
        text = b"%b %b%b*/ %b" % (before, opening, inside, behind)
        read_, skipped, executed = (
            scan(one, False, dialect=Dialect.MYSQL)[0] & PINS
            for one in (text, before + b" " + b" " + behind, b"%b %b %b" % (before, inside, behind))
        )
        if not read_ & unreadable:
            assert skipped & ~read_ == 0, text
            assert executed & ~read_ == 0, text


def test_other_dialects_are_refused() -> None:
    assert scan(b"select 1", dialect=9) == (bit(PinReason.PIN_UNREADABLE), b"")


def test_encodings_that_hide_ascii_bytes_are_not_read() -> None:
    for text in (b"", b"select 1", b"set x = 1", b"'", b"\x83\x5c'; set x = 1"):
        assert scan(text, ascii_safe=False, dialect=Dialect.MYSQL) == (bit(PinReason.PIN_ENCODING), b"")


def test_long_texts_of_each_kind() -> None:
    """Interiors longer than any buffer, in pieces of the size a relay reads."""
    long = 200_000
    expected = bit(PinReason.PIN_USER_VARIABLE) | MULTIPLE
    for opening, inside, closing in (
        (b"select '", b"a''", b"'"),
        (b"select '", b"\\'", b"'"),
        (b'select "', b"a'", b'"'),
        (b"select `", b"a``", b"`"),
        (b"/*", b"/**", b"*/ select 1"),
        (b"select 1 -- ", b"'", b"\n"),
        (b"select 1 #", b"'", b"\n"),
        (b"select ", b"x", b""),
        (b"select ", b"1", b""),
        (b"select @", b"x.", b""),
        (b"select ", b"(", b")" * long),
        (b"/*! select '", b"x", b"'*/"),
    ):
        text = opening + inside * (long // len(inside)) + closing + b"; set @x = 1"
        assert scan(text, False, dialect=Dialect.MYSQL)[0] == expected, opening
        assert scan(text, False, cuts=range(0, len(text), 16384), dialect=Dialect.MYSQL)[0] == expected, opening


def test_second_scanner_agrees_on_random_texts() -> None:
    rng = random.Random(20261125)
    kinds, known = set(), 0
    for _ in range(12000):
        text = b"".join(rng.choices(FRAGMENTS, k=rng.randint(1, 12)))
        escapes, dialect = rng.random() < 0.7, rng.choice(DIALECTS)
        expected = reference(text, escapes, dialect)
        mask = scan(text, not escapes, dialect=dialect)[0]
        if expected is not None:
            known += 1
            kinds.add(expected)
            assert names(mask) == names(expected), (text, escapes, dialect)
        cuts = sorted(rng.choices(range(len(text) + 1), k=3))
        assert scan(text, not escapes, cuts=cuts, dialect=dialect)[0] == mask, (text, escapes, dialect, cuts)
    assert len(kinds) > 12 and known > 4000  # the generator still reaches the interesting corners


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=14),
    st.booleans(),
    st.sampled_from(DIALECTS),
    st.data(),
)
def test_any_split_of_any_bytes_gives_the_same(
    pieces: list[bytes], escapes: bool, dialect: Dialect, data: st.DataObject
) -> None:
    text = b"".join(pieces)
    whole = scan(text, not escapes, dialect=dialect)
    cuts = data.draw(st.lists(st.integers(0, len(text))))
    assert scan(text, not escapes, cuts=cuts, dialect=dialect) == whole
    assert scan(text, not escapes, cuts=range(len(text)), dialect=dialect) == whole


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.booleans(), st.sampled_from(DIALECTS))
def test_second_scanner_agrees(pieces: list[bytes], escapes: bool, dialect: Dialect) -> None:
    text = b"".join(pieces)
    expected = reference(text, escapes, dialect)
    if expected is not None:
        assert names(scan(text, not escapes, dialect=dialect)[0]) == names(expected), text
