"""proxy.pgsql._params: sets of ParameterStatus messages: one pointer per set, and what differs between two."""

import pytest

from proxy.pgsql._params import ParamsDoor
from tests.harness.messages import message, parameter_status


def made_of(**values: str) -> bytes:
    return b"".join(parameter_status(name, values[name]) for name in sorted(values))


BASE = {"DateStyle": "ISO, MDY", "TimeZone": "UTC", "client_encoding": "UTF8", "standard_conforming_strings": "on"}


def test_equal_sets_are_one_and_leave_when_the_last_one_goes() -> None:
    door = ParamsDoor()
    a, b, c = door.intern(made_of(**BASE)), door.intern(made_of(**BASE)), door.intern(made_of(**BASE, x="1"))
    assert a == b != c
    assert door.count == 2
    assert door.data(a) == made_of(**BASE)
    door.drop(a)
    assert door.count == 2
    door.drop(b)
    door.drop(c)
    assert door.count == 0


def test_the_empty_set() -> None:
    door = ParamsDoor()
    empty = door.intern(b"")
    assert door.data(empty) == b""
    assert door.difference(empty, empty) == b""
    assert door.difference(empty, door.intern(made_of(a="1"))) == made_of(a="1")
    assert door.difference(door.intern(made_of(a="1")), empty) == b""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TimeZone", "Europe/Berlin"),
        ("TimeZone", ""),
        ("Aaa", "1"),
        ("zzz", "2"),
        ("Time", "x"),
        ("TimeZoneX", "y"),
        ("", "v"),
    ],
)
def test_one_message_put_in_or_replaced(name: str, value: str) -> None:
    door = ParamsDoor()
    before = door.intern(made_of(**BASE))
    after = door.change(before, parameter_status(name, value))
    assert door.data(after) == made_of(**{**BASE, name: value})
    assert door.count == 1
    again = door.change(after, parameter_status(name, value))
    assert again == after, "a report of what is known already makes no new set"
    assert door.count == 1


def test_a_set_built_message_by_message_is_the_set_built_at_once() -> None:
    door = ParamsDoor()
    built = door.intern(b"")
    for name in sorted(BASE, reverse=True):
        built = door.change(built, parameter_status(name, BASE[name]))
    assert built == door.intern(made_of(**BASE))


@pytest.mark.parametrize(
    ("told", "now", "expected"),
    [
        (BASE, BASE, {}),
        (BASE, {**BASE, "TimeZone": "CET"}, {"TimeZone": "CET"}),
        (BASE, {**BASE, "A": "1", "zz": "2"}, {"A": "1", "zz": "2"}),
        ({}, BASE, BASE),
        (BASE, {}, {}),
        ({"a": "1", "c": "3"}, {"b": "2", "c": "4"}, {"b": "2", "c": "4"}),
        ({"ab": "1"}, {"a": "1", "abc": "1"}, {"a": "1", "abc": "1"}),
        ({"application_name": "x"}, {"application_name": ""}, {"application_name": ""}),  # EC-44
    ],
)
def test_ec44_the_difference_is_what_the_client_must_be_told(
    told: dict[str, str], now: dict[str, str], expected: dict[str, str]
) -> None:
    door = ParamsDoor()
    assert door.difference(door.intern(made_of(**told)), door.intern(made_of(**now))) == made_of(**expected)


def test_what_the_lexer_must_know() -> None:
    door = ParamsDoor()
    assert door.flags(door.intern(b"")) == (True, True)
    assert door.flags(door.intern(made_of(**BASE))) == (True, True)
    assert door.flags(door.intern(made_of(**{**BASE, "standard_conforming_strings": "off"}))) == (False, True)
    for encoding in ("SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"):
        assert door.flags(door.intern(made_of(**{**BASE, "client_encoding": encoding}))) == (True, False)
    for encoding in ("UTF8", "LATIN1", "EUC_JP", "WIN1252", "SQL_ASCII"):
        assert door.flags(door.intern(made_of(**{**BASE, "client_encoding": encoding}))) == (True, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"S", b"S\0\0\0\x04", b"S\0\0\0\x05\0", b"S\0\0\0\x06a\0", b"S\0\0\0\x08a\0bb", b"S\0\0\0\x09a\0b\0x",
        b"S\xff\xff\xff\xff", message("Z", b"I"), parameter_status("a", "b") + b"x", parameter_status("a", "b")[:-1],
    ],
)  # fmt: skip
def test_what_is_no_parameter_status_is_refused(raw: bytes) -> None:
    door = ParamsDoor()
    with pytest.raises(ValueError, match="ParameterStatus"):
        door.intern(raw)
    base = door.intern(made_of(**BASE))
    with pytest.raises(ValueError, match="ParameterStatus"):
        door.change(base, raw)
    assert door.data(base) == made_of(**BASE)


def test_two_messages_are_not_one() -> None:
    door = ParamsDoor()
    with pytest.raises(ValueError, match="ParameterStatus"):
        door.change(door.intern(b""), made_of(a="1", b="2"))
