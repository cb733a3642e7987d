"""Explanations: each text of the table, and that they agree with what the relay reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.reasons import PinReason
from proxy.sql._effects import EffectKind, effects
from proxy.sql._lex import EFFECTS, Dialect, scan
from proxy.sql.explain import IGNORE, PIN, REFUSE, Explanation, Note, Pin, explain, why
from proxy.sql.rds import TEXT_LIMIT, RdsReason, rds
from tests.unit.sql.effects_cases import CASES as EFFECT_CASES
from tests.unit.sql.effects_cases import SEVERAL
from tests.unit.sql.explain_cases import BACKSLASH, CASES, PINS
from tests.unit.sql.lex_cases import CASES as LEX_CASES
from tests.unit.sql.test_lex import FRAGMENTS


def names(pins: tuple[Pin, ...]) -> list[str]:
    return [pin.reason.name.removeprefix("PIN_") for pin in pins]


def said(found: Explanation) -> list[str]:
    lines = []
    for number, one in enumerate(found.statements, 1):
        parts = [str(number), *names(one.pins)]
        for verb, those in (("set", one.sets), ("reset", one.resets), ("ask", one.asks)):
            parts += [f"{verb} {', '.join(those)}"] if those else []
        parts += [f"deallocate {', '.join(one.deallocates)}"] if one.deallocates else []
        lines.append(" ".join([*parts, *(note.name for note in one.notes)]))
    lines += ["together " + " ".join(names(found.together))] if found.together else []
    return lines + [note.name for note in found.notes]


def rds_said(text: bytes, std_strings: bool = True) -> str:
    found = rds(text, std_strings=std_strings)
    parts = [reason.name for reason in found.pins] + [f"?{reason.name}" for reason in found.unclear]
    return " ".join(parts + ["misled"] * found.misled)


@pytest.mark.parametrize("text", CASES, ids=repr)
def test_table(text: bytes) -> None:
    lines, verdict = CASES[text]
    assert said(explain(text)) == lines
    assert rds_said(text) == verdict


@pytest.mark.parametrize("text", BACKSLASH, ids=repr)
def test_table_without_standard_strings(text: bytes) -> None:
    lines, verdict = BACKSLASH[text]
    assert said(explain(text, std_strings=False)) == lines
    assert rds_said(text, False) == verdict


def test_the_table_has_every_reason_that_a_text_can_have() -> None:
    # the others are of the protocol, of MySQL, or the server's; PIN_ENCODING is the session's
    of_text = {"SETTING", "PREPARED_SQL", "TEMPORARY_OBJECT", "CURSOR", "LISTEN", "LOAD", "SEQUENCE", "ADVISORY_LOCK"}
    of_text |= {"DO_BLOCK", "UNREADABLE", "FUNCTION"}
    assert {
        name for lines, _ in PINS.values() for line in lines for name in line.split() if name[:1].isalpha()
    } == of_text | {"ENDS"}  # of a table that is gone with its transaction
    assert {reason.name for _, verdict in CASES.values() for reason in RdsReason if reason.name in verdict} == {
        reason.name for reason in RdsReason
    } - {"SIZE"}


def relay(text: bytes, std_strings: bool = True) -> set[PinReason]:
    """What would pin, read from the text as a whole."""
    mask, _ = scan(text, std_strings)
    found = {reason for reason in list(PinReason)[:-1] if mask >> reason & 1}
    for kind, _, name, _ in effects(text, std_strings) if mask & EFFECTS else []:
        if kind == EffectKind.EFFECT_UNKNOWN:
            found.add(PinReason.PIN_FUNCTION if name else PinReason.PIN_SETTING)
    return found


@pytest.mark.parametrize("std_strings", [True, False])
def test_agrees_with_the_relay(std_strings: bool) -> None:
    texts = [case.text for case in LEX_CASES] + list(EFFECT_CASES) + list(SEVERAL)
    for text in texts:
        found = explain(text, std_strings=std_strings)
        assert {pin.reason for pin in found.pins} == relay(text, std_strings), text


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=12), st.booleans())
@settings(max_examples=500, deadline=None)
def test_agrees_with_the_relay_on_anything(parts: list[bytes], std_strings: bool) -> None:
    text = b" ".join(parts)
    found = explain(text, std_strings=std_strings)
    assert {pin.reason for pin in found.pins} == relay(text, std_strings)
    ends = [(one.start, one.stop) for one in found.statements]
    assert ends == sorted(ends) and all(start < stop <= len(text) for start, stop in ends)
    rds(text, std_strings=std_strings)


def test_policy() -> None:
    policy = {PinReason.PIN_LISTEN: IGNORE, PinReason.PIN_LOAD: REFUSE}
    assert explain(b"listen c", policy=policy).pins == (Pin(PinReason.PIN_LISTEN, IGNORE),)
    free, both, refused = (
        explain(text, policy=policy) for text in (b"listen c", b"listen c; do 'x'", b"listen c; load 'x'; do 'x'")
    )
    assert (free.pinned, free.refused) == (False, False)
    assert (both.pinned, both.refused) == (True, False)
    assert (refused.pinned, refused.refused) == (False, True)
    assert [pin.policy for pin in both.pins] == [IGNORE, PIN]
    together = explain(
        b"create function f() returns int begin atomic select 1; end; set a = 1",
        policy={PinReason.PIN_SETTING: REFUSE},
    )
    assert together.together == (Pin(PinReason.PIN_SETTING, REFUSE),) and together.refused


def test_digests() -> None:
    found = explain(b"SET search_path = 'secret'; SET NAMES 'UTF8' ;; ")
    assert found.digest == b"set search_path = $1; set names $2"
    assert [one.digest for one in found.statements] == [b"set search_path = $1", b"set names $1"]
    assert explain(b"select 1;").digest == b"select $1"
    assert explain(b"select 'a").digest == b"select..."


def test_a_place_for_each_statement() -> None:
    text = b"  select 1 ; /* x */ select 2 -- y\n;select 'a"
    found = explain(text)
    assert [text[one.start : one.stop] for one in found.statements] == [b"select 1", b"select 2", b"select 'a"]


def test_an_encoding_that_hides_bytes() -> None:
    found = explain(b"select 'x\x83'; listen c", ascii_safe=False)
    assert found == Explanation(b"...", (), (Pin(PinReason.PIN_ENCODING),))


def test_mysql_pins_only() -> None:
    found = explain(b"select @a := 1; select 1", dialect=Dialect.MYSQL)
    assert names(found.pins) == ["USER_VARIABLE"]
    assert said(explain(b"set names 'utf8'", dialect=Dialect.MYSQL))[0].startswith("1")


def test_rds_proxy_reads_16_kib() -> None:
    text = b"select '" + b"x" * (TEXT_LIMIT - 9) + b"'"
    assert len(text) == TEXT_LIMIT and rds_said(text) == ""
    assert rds_said(text + b" ") == "SIZE"
    assert explain(text + b" ").pins == ()


def test_every_reason_and_note_has_words() -> None:
    for reason in list(PinReason)[:-1]:
        assert " " in why(reason) or reason.name.removeprefix("PIN_").lower() == why(reason)
    words = [each.value for group in (Note, RdsReason) for each in group]
    assert len(set(words)) == len(words)
