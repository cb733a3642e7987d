"""proxy.sql._effects: the table, whole and among other statements; then texts of all shapes against the real server."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.sql._effects import EffectKind, effects
from proxy.sql._lex import EFFECTS, scan
from tests.harness.postgres import Postgres
from tests.unit.pgsql.sessions import CUSTOM, Session
from tests.unit.sql.effects_cases import BACKSLASH, CASES, SEVERAL

K = EffectKind
JUNK = [b"select 1", b"select ';', $$;$$, 1e5, $1, \";\"", b"/* ; */ select (1) -- ;\n", b"insert into t values ('''')"]


def said(text: bytes, std_strings: bool = True, first: int = 0) -> list[str]:
    """`SET name=value`, with the statement's number in front unless it is `first`; elements of a list in brackets."""
    found = []
    for kind, statement, name, value in effects(text, std_strings):
        shown = value.decode("utf-8", "surrogateescape")
        if shown.startswith("\x01"):
            shown = "[" + shown[1:].replace("\x01", "][") + "]"
        words = [
            kind.name.removeprefix("EFFECT_"),
            *([f"{name}={shown}"] if kind == K.EFFECT_SET else [name] * (name != "")),
        ]
        found.append(f"{statement - first}:" * (statement != first) + " ".join(words))
    return found


@pytest.mark.edge_case(40)
@pytest.mark.parametrize("text", CASES, ids=lambda text: text[:60].decode("latin-1"))
def test_table(text: bytes) -> None:
    assert said(text) == CASES[text]


@pytest.mark.edge_case(40)
@pytest.mark.parametrize("text", SEVERAL, ids=lambda text: text.decode("latin-1"))
def test_statements_are_counted_as_the_server_does(text: bytes) -> None:
    assert said(text) == SEVERAL[text]


@pytest.mark.parametrize("text", BACKSLASH, ids=lambda text: text.decode("latin-1"))
def test_strings_whose_backslashes_mean_something(text: bytes) -> None:
    assert said(text, std_strings=False) == BACKSLASH[text]


@pytest.mark.edge_case(40)
@pytest.mark.parametrize("junk", JUNK)
def test_the_same_among_other_statements(junk: bytes) -> None:
    for text, expected in CASES.items():
        for before, after, first in (
            (junk + b";", b"", 1),
            (b"", b"\n;" + junk, 0),
            (b";" + junk + b";;", b"\n;" + junk, 1),
        ):
            assert said(before + text + after, first=first) == expected, (before, text, after)


@pytest.mark.edge_case(40)
@pytest.mark.parametrize("blank", [b" ", b"\n\t", b" /* ' */ ", b" -- $$\n", b"/* /* set */ */", b"\f\v\r"])
def test_comments_and_blanks_mean_nothing(blank: bytes) -> None:
    for text, expected in CASES.items():
        if not {b"'", b'"', b"-", b"/", b"$$"}.intersection(text[i : i + n] for n in (1, 2) for i in range(len(text))):
            assert said(blank + text.replace(b" ", blank) + blank) == expected, text


@pytest.mark.edge_case(40)
def test_the_case_of_words_means_nothing() -> None:
    for text, expected in CASES.items():
        if not {b"'"[0], b'"'[0], 0xC3}.intersection(text):
            assert said(text.upper()) == expected, text


def test_whoever_reads_effects_was_told_to_by_the_scanner() -> None:
    """LEX_EFFECTS is what makes anybody look: without it no effect may be there."""
    for table, std_strings in ((CASES, True), (SEVERAL, True), (BACKSLASH, False)):
        for text, expected in table.items():
            if expected:
                assert scan(text, std_strings)[0] & EFFECTS or scan(text, std_strings)[0] & 0xFFFFFFFF, text


def test_a_million_bytes_are_read_in_one_go() -> None:
    text = b"set a = 1;" * 50_000 + b"select '" + b"x" * 500_000 + b"'; set b = 2"
    found = effects(text)
    assert len(found) == 50_001
    assert found[-1] == (K.EFFECT_SET, 50_001, "b", b"2")


# ---------------------------------------------------------------- against the server

PLAIN = [
    "application_name", "work_mem", "lock_timeout", "extra_float_digits", "bytea_output", "xmloption", "timezone",
    "datestyle", "intervalstyle", "client_min_messages", "enable_seqscan", "default_transaction_isolation",
    "default_transaction_read_only", "search_path", "temp_tablespaces", "standard_conforming_strings",
    "client_encoding", "plpgsql.extra_warnings",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(pg: Postgres) -> Iterator[tuple[Session, Session]]:
    sessions = Session(pg), Session(pg)
    yield sessions
    for session in sessions:
        session.close()


def model(
    was: dict[bytes, bytes], found: list[tuple[EffectKind, int, str, bytes]]
) -> tuple[dict[bytes, bytes], set[str]]:
    """The settings after these effects, and of which settings the value is not known ("*": of any)."""
    now, unknown = dict(was), set[str]()
    for kind, _, name, value in found:
        key = name.encode("latin-1")
        if kind in {K.EFFECT_SET, K.EFFECT_RESET}:
            now.pop(key, None)
            unknown.discard(name)
            if kind == K.EFFECT_SET:
                now[key] = value
        elif kind in {K.EFFECT_RESET_ALL, K.EFFECT_DISCARD_ALL}:
            kept = {b"role", b"session_authorization"} if kind == K.EFFECT_RESET_ALL else set()
            now = {key: value for key, value in now.items() if key in kept}
        elif kind == K.EFFECT_ASK:
            unknown.add(name)
        elif kind in {K.EFFECT_UNKNOWN, K.EFFECT_ROLLBACK_TO}:
            unknown.add("*")
    return {key: value for key, value in now.items() if key.decode("latin-1") not in unknown}, unknown


def agrees(pair: tuple[Session, Session], text: bytes, std_strings: bool = True) -> str:
    """Runs `text`; a second session is led to what `effects` says: both are then the same, but for the unknown."""
    was: dict[bytes, bytes] = {} if std_strings else {b"standard_conforming_strings": b"off"}
    real, second = pair
    for session in pair:
        session.fresh()
        session.replay(was)
    before = real.state()
    if not real.run(text):
        return "refused"
    found = effects(text, std_strings)
    after = real.state()
    changed = {name for name in after if before.get(name) != after[name]}
    claimed = {name for _, _, name, _ in found}
    if not {K.EFFECT_RESET_ALL, K.EFFECT_DISCARD_ALL, K.EFFECT_UNKNOWN}.intersection(kind for kind, *_ in found):
        assert changed <= claimed, f"{text!r} changed {changed}, said {said(text, std_strings)}"
    want, unknown = model(was, found)
    if "*" in unknown:
        return "unknown"
    second.replay(want, was)
    there = second.state()
    differ = {n: (after.get(n), there.get(n)) for n in (after.keys() & there.keys()) - unknown if after[n] != there[n]}
    assert not differ, f"{text!r}: (is, should be) {differ}; said {said(text, std_strings)}"
    return "known" if found else "nothing"


REAL = [
    b"set my.x = 'a''b\\c'",
    b"set my.x = 007",
    b"set my.x = -0",
    b"set my.x = -5, 6",
    b"set my.x = .5",
    b"set my.x = 1.",
    b"set my.x = " + b"n" * 70,
    b'set "My"."X" = "Nn"',
    b"set my.x = 99999999999",
    b"set my.x = -99999999999",
    b"set my.x = true",
    b"set my.x = '\xc3\xa9'",
    b"set my.x = \xc3\x89",
    b"set search_path = '', \"A b\", c, pg_catalog",
    b"set search_path = ''",
    b"set search_path = 'a, b', 'c''d', 'e\"f', 'g\\h'",
    b"set schema 'a,b'",
    b"select set_config('search_path', 'a, \"B c\"', false)",
    b"set datestyle = sql, dmy",
    b"set time zone -7",
    b"set time zone interval '-08:30' hour to minute",
    b"set time zone local",
    b"set timezone = 'Europe/Rome'",
    b"set names 'latin1'",
    b"set names",
    b"set role app",
    b"set session authorization app",
    b"set xml option document",
    b"set session characteristics as transaction read only, isolation level serializable, deferrable",
    b"set session transaction isolation level serializable",
    b"set local my.x = 1",
    b"set my.x from current",
    b"set role app; set session authorization app",
    b"set role app; set session_authorization = app",
    b"set role app; reset session_authorization",
    b"set session authorization app; set role app; reset role",
    b"set my.x = 1; select set_config('my.x', 'b', true)",
    b"set my.x = 1; reset all",
    b"set role app; reset all",
    b"set role app; set my.x = 1; discard plans",
    b"set work_mem = '4MB'; set work_mem = default",
    b"begin; set my.x = 1; commit",
    b"set bytea_output = Escape",
    b"set extra_float_digits = -1",
    b"select set_config('MY.X', '  ', false) as a, pg_catalog.set_config('my.y', 'z', FALSE)",
    b"select set_config('my.x', null, false)",
    b"select set_config('work_mem', null, false)",
    b"select 1 from (select set_config('my.x', 'y', false) offset 0) s",
    b"select set_config('my.x', 'y', null)",
    b"select set_config('my.x', 'y', false) where false",
    b"values (set_config('my.x', 'y', false))",
    b"explain select set_config('my.x', 'y', false)",
    b"explain analyze select set_config('my.x', 'y', false)",
    b"begin; declare c cursor for select set_config('my.x', 'y', false); fetch c; commit",
    b"select \"set_config\"('my.x', 'y', false)",
    b"select u&\"set_config\"('my.x', 'y', false)",
    b"create function pg_temp.f() returns int begin atomic select 1; select 2; end; set my.x = 1",
    b"create function pg_temp.g() returns int begin atomic select 1; end; set my.x = 1; reset my.x; set my.y = 1",
    b"set plpgsql.extra_warnings = 'shadowed_variables'",
    b"set statement_timeout = 60000; set lock_timeout = '1min'",
]


@pytest.mark.edge_case(39, 40)
@pytest.mark.parametrize("text", REAL, ids=lambda text: text[:60].decode("latin-1"))
@pytest.mark.parametrize("std_strings", [True, False], ids=["", "backslashes"])
def test_the_server_agrees(pair: tuple[Session, Session], text: bytes, std_strings: bool) -> None:
    agrees(pair, text, std_strings)


def test_the_server_agrees_with_the_table(pair: tuple[Session, Session]) -> None:
    """What of the table it takes: with names that it knows in place of `a`, `b` and `r`."""
    outcomes = []
    for text in [*CASES, *SEVERAL]:
        if b"discard" in text or b"reset all" in text or len(text) < 1000:
            for old, new in ((b" a", b" my.x"), (b"'a'", b"'my.x'"), (b" r", b" app"), (b" c'", b" my.y'")):
                outcomes.append(agrees(pair, text.replace(old, new)))
    assert outcomes.count("known") > 200


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Statements that the server mostly takes, spelled in every way."""

    def pick(*choices: str) -> str:
        return draw(st.sampled_from(choices))

    def name() -> str:
        plain = draw(st.sampled_from([*CUSTOM, *PLAIN]))
        return pick(plain, plain.upper(), ".".join(f'"{part}"' for part in plain.split(".")), plain.replace(".", " . "))

    def string(inside: str) -> str:
        quoted = inside.replace("'", "''")
        return pick(
            *[f"'{quoted}'"] * 6,
            f"E'{quoted}'",
            f"e'{quoted}\\x41'",
            f"$${inside}$$",
            f"$a${inside}$a$",
            f"U&'{quoted}'",
        )

    def value() -> str:
        inside = pick(
            "on",
            "off",
            "a",
            "B",
            "1",
            "64kB",
            "UTC",
            "iso, dmy",
            "escape",
            "",
            "it's",
            'a"b',
            "a\\b",
            "é",
            "0",
            "error",
        )
        return pick(
            string(inside), string(inside), inside if inside.isalnum() else "x", '"' + inside.replace('"', '""') + '"',
            "true", "1", "-1", "- 2", "+3", "1.5", "007", "-0", "0", "default", "N" * 64, "64", "document",
        )  # fmt: skip

    def call() -> str:
        flag = pick("false", "FALSE", "false", "true", "null", "'f'", "not true", "1 = 2")
        what = string(draw(st.sampled_from([*CUSTOM, *PLAIN])))
        to = pick(value(), string("a"), string("UTC"), "null", "'a' || 'b'", "'on'::text", "(select 'on')")
        function = pick("set_config", "SET_CONFIG", "pg_catalog.set_config", '"set_config"', "pg_catalog . set_config")
        return f"{function}({what}, {to}, {flag})"

    def statement() -> str:
        match draw(st.integers(0, 16)):
            case 0 | 1 | 2 | 3:
                more = ", " + value() if draw(st.booleans()) and draw(st.booleans()) else ""
                return f"set {pick('', '', 'session', 'local')} {name()} {pick('=', 'to')} {value()}{more}"
            case 4:
                return f"set {pick('', 'session', 'local')} search_path {pick('=', 'to')} {value()}, {value()}"
            case 5:
                return f"reset {pick(name(), name(), 'all', 'time zone', 'role', 'session authorization', 'timezone')}"
            case 6:
                return f"set {pick('', 'session', 'local')} time zone " + pick(
                    value(), "local", "interval '1' hour", "-3.5"
                )
            case 7:
                return f"set {pick('', 'session', 'local')} role " + pick(
                    "app", "none", '"app"', string("app"), "pg_monitor"
                )
            case 8:
                return (
                    f"set {pick('', 'session', 'local')} session authorization {pick('app', 'default', string('app'))}"
                )
            case 9:
                modes = ["read only", "read write", "deferrable", "not deferrable", "isolation level repeatable read"]
                return "set session characteristics as transaction " + pick(", ", " ").join(
                    draw(st.lists(st.sampled_from(modes), min_size=1, max_size=3))
                )
            case 10:
                return pick(
                    f"set names {string('utf8')}",
                    "set names default",
                    f"set schema {string('a')}",
                    "set xml option content",
                )
            case 11 | 12:
                return "select " + ", ".join(
                    call() + pick("", " as x", ' as "y"') for _ in range(draw(st.integers(1, 2)))
                )
            case 13:
                around = [
                    "select {}", "select 1, {}", "select {} x", "select {} from (select 1) s", "select {} where false",
                    "values ({})", "select ({})", "with q as (select {}) select * from q", "explain select {}",
                    "explain analyze select {}", "select {} union select 'a'", "select length({})",
                ]  # fmt: skip
                return draw(st.sampled_from(around)).format(call())
            case 14:
                return pick(
                    f"set {pick('session', 'local', '')} {name()} from current",
                    "set transaction read write",
                    "set constraints all deferred",
                )
            case 15:
                return pick("select 1", "select 'set my.x = 1'", "", "show my.x", "set local my.x = 1", "select $$;$$")
            case _:
                return pick("discard plans", "deallocate all", "discard temp", "set session transaction read write")

    def spelled(text: str) -> str:
        blank = pick(" ", " ", " ", "\n", " /* ; */ ", " -- '\n", "\t")
        # not within strings and names
        if not {"'", '"', "$"}.intersection(text):
            text = text.replace(" ", blank)
        return text if draw(st.booleans()) else text.replace("set ", "SET ", 1).replace("select ", "Select ", 1)

    joined = pick(";", " ; ", ";;").join(spelled(statement()) for _ in range(draw(st.integers(1, 4))))
    return joined.encode()


@pytest.mark.edge_case(39, 40, 41)
@pytest.mark.timeout(120)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@example(b"set my.x = 007;set my.y = -0", True)
@example(b"set role app;set session_authorization = app", True)
@given(texts(), st.booleans())
def test_the_server_agrees_on_texts_of_all_shapes(
    pair: tuple[Session, Session], text: bytes, std_strings: bool
) -> None:
    agrees(pair, text, std_strings)
