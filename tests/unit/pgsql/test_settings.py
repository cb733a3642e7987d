"""proxy.pgsql._settings: the SQL that leads a session from one set of settings to another; a real server is referee."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.pgsql._settings import SettingsDoor
from tests.harness.postgres import Postgres
from tests.unit.pgsql.sessions import Session, queries

Set = dict[bytes, bytes]
replay = SettingsDoor.replay


def sql(was: Set, want: Set, in_transaction: bool = False) -> list[bytes]:
    count, messages = replay(was, want, in_transaction)
    assert count == len(queries(messages))
    return queries(messages)


@pytest.mark.edge_case(41)
@pytest.mark.parametrize(
    ("was", "want", "expected"),
    [
        ({}, {}, b""),
        ({b"a": b"1"}, {b"a": b"1"}, b""),
        ({}, {b"a": b"1"}, b"SET \"a\" TO '1';"),
        ({b"a": b"1"}, {}, b'RESET "a";'),
        ({b"a": b"1"}, {b"a": b"2"}, b"SET \"a\" TO '2';"),
        ({b"a": b"1", b"b": b"2"}, {b"b": b"2", b"c": b"3"}, b'RESET "a";SET "c" TO \'3\';'),
        ({}, {b"a": b""}, b"SET \"a\" TO '';"),
        # names
        ({}, {b"my.x": b"1"}, b'SET "my"."x" TO \'1\';'),
        ({b"my.x": b"1"}, {}, b'RESET "my"."x";'),
        ({}, {b"a b;c": b"1"}, b"SET \"a b;c\" TO '1';"),
        # values
        ({}, {b"a": b"it's"}, b"SET \"a\" TO 'it''s';"),
        ({}, {b"a": b"'"}, b"SET \"a\" TO '''';"),
        ({}, {b"a": b"\\"}, b"SET \"a\" TO  E'\\\\';"),
        ({}, {b"a": b"\\'; drop"}, b"SET \"a\" TO  E'\\\\''; drop';"),
        ({}, {b"a": b"default"}, b"SET \"a\" TO 'default';"),
        # lists: elements apart, or the server's own text
        ({}, {b"search_path": b"\x01a"}, b"SET \"search_path\" TO 'a';"),
        ({}, {b"search_path": b"\x01a, b\x01C'd\x01"}, b"SET \"search_path\" TO 'a, b','C''d','';"),
        ({}, {b"search_path": b"\x01"}, b"SET \"search_path\" TO '';"),
        ({}, {b"search_path": b'a, "B\'c"'}, b"SELECT pg_catalog.set_config('search_path','a, \"B''c\"',false);"),
        ({}, {b"search_path": b""}, b"SELECT pg_catalog.set_config('search_path','',false);"),
        ({}, {b"temp_tablespaces": b"x"}, b"SELECT pg_catalog.set_config('temp_tablespaces','x',false);"),
        ({b"search_path": b"\x01a"}, {}, b'RESET "search_path";'),
        # who one is: taken back first, set last, the user before the role
        (
            {b"role": b"r", b"session_authorization": b"s", b"a": b"1"},
            {b"role": b"R", b"session_authorization": b"S", b"z": b"1"},
            (
                b'RESET SESSION AUTHORIZATION;RESET ROLE;RESET "a";SET "z" TO \'1\';'
                b"SET \"session_authorization\" TO 'S';SET \"role\" TO 'R';"
            ),
        ),
        ({b"role": b"r"}, {}, b"RESET ROLE;"),
        ({b"session_authorization": b"r"}, {}, b"RESET SESSION AUTHORIZATION;"),
        ({}, {b"role": b"it's"}, b"SET \"role\" TO 'it''s';"),
        # a change of others in between needs the rights of the login user
        ({b"role": b"r"}, {b"role": b"r", b"a": b"1"}, b"RESET ROLE;SET \"a\" TO '1';SET \"role\" TO 'r';"),
        # client_encoding: in front of the values that are in it
        (
            {b"a": b"1"},
            {b"a": b"2", b"client_encoding": b"LATIN1"},
            b"SET \"client_encoding\" TO 'LATIN1';SET \"a\" TO '2';",
        ),
        ({b"client_encoding": b"LATIN1", b"role": b"r"}, {}, b'RESET ROLE;RESET "client_encoding";'),
        ({b"client_encoding": b"LATIN1"}, {b"client_encoding": b"LATIN1", b"a": b"\xe9"}, b"SET \"a\" TO '\xe9';"),
    ],
)
def test_replay_is_minimal_ordered_and_quoted(was: Set, want: Set, expected: bytes) -> None:
    assert sql(was, want) == [b"BEGIN;" + expected + b"COMMIT"]
    assert sql(was, want, in_transaction=True) == [expected]


@pytest.mark.edge_case(47)
def test_ec47_bytes_of_another_encoding_come_in_a_message_of_their_own() -> None:
    want = {b"client_encoding": b"LATIN1", b"my.x": b"\xe9"}
    both = [b"BEGIN;SET \"client_encoding\" TO 'LATIN1';", b'SET "my"."x" TO \'\xe9\';COMMIT']
    assert sql({}, want) == both
    assert sql({}, want, in_transaction=True) == [b"SET \"client_encoding\" TO 'LATIN1';", b'SET "my"."x" TO \'\xe9\';']
    assert sql({b"client_encoding": b"LATIN1"}, {b"my.x": b"\xc3\xa9"})[0] == b'BEGIN;RESET "client_encoding";'
    assert len(sql({b"my.x": b"\xc3\xa9"}, {b"client_encoding": b"LATIN1"})) == 1, "what goes has no bytes"


def test_ask_has_a_column_for_each_name_in_order() -> None:
    assert queries(SettingsDoor.ask([b"b", b"a'; drop", b"my.x"])) == [
        (
            b"SELECT pg_catalog.current_setting('a''; drop',true),pg_catalog.current_setting('b',true),"
            b"pg_catalog.current_setting('my.x',true)"
        )
    ]


@pytest.mark.edge_case(22)
def test_ec22_what_the_meaning_of_a_statement_depends_on() -> None:
    indifferent = {b"application_name": b"x", b"statement_timeout": b"1", b"log_statement": b"all", b"tcp_x": b"1"}
    telling = {b"search_path": b"\x01a", b"role": b"r", b"timezone": b"UTC", b"session_authorization": b"s"}
    telling |= {b"my.x": b"1", b"log_": b"1", b"datestyle": b"iso", b"client_encoding": b"x", b"bytea_output": b"hex"}
    assert SettingsDoor.meaning(indifferent | telling) == telling
    assert SettingsDoor.meaning(indifferent) == {}
    assert SettingsDoor.meaning({}) == {}


BORN = {b"DateStyle": b"ISO, MDY", b"TimeZone": b"UTC", b"application_name": b"", b"server_version": b"15"}


@pytest.mark.edge_case(42)
@pytest.mark.parametrize(
    ("mine", "base", "now", "everything", "expected"),
    [
        # the server's words for what a text called otherwise
        ({b"datestyle": b"sql, dmy"}, {}, {b"DateStyle": b"SQL, DMY"}, False, {b"datestyle": b"SQL, DMY"}),
        # a SET to what the server has anyway is no difference at all
        ({b"datestyle": b"iso"}, {}, {}, False, {}),
        ({b"datestyle": b"iso", b"my.x": b"1"}, {}, {}, False, {b"my.x": b"1"}),
        # … but for a client that began with something else
        ({b"datestyle": b"iso"}, {b"datestyle": b"German"}, {}, False, {b"datestyle": b"ISO, MDY"}),
        # what nobody says it has changed is not looked at, unless something was reported that no text accounts for
        ({b"my.x": b"1"}, {}, {b"TimeZone": b"Europe/Rome"}, False, {b"my.x": b"1"}),
        ({b"my.x": b"1"}, {}, {b"TimeZone": b"Europe/Rome"}, True, {b"my.x": b"1", b"timezone": b"Europe/Rome"}),
        ({}, {}, {b"server_version": b"16", b"in_hot_standby": b"on"}, True, {}),
        ({}, {}, {}, True, {}),
        ({b"application_name": b"x"}, {}, {b"application_name": b"x"}, False, {b"application_name": b"x"}),
        # not reported by this version
        ({b"search_path": b"\x01a"}, {}, {}, True, {b"search_path": b"\x01a"}),
        ({b"search_path": b"\x01a"}, {}, {b"search_path": b"a"}, False, {b"search_path": b"a"}),
    ],
)
def test_ec42_the_servers_own_words_win(mine: Set, base: Set, now: Set, everything: bool, expected: Set) -> None:
    assert SettingsDoor.reported(mine, base, BORN, BORN | now, everything) == expected


# ---------------------------------------------------------------- against the server


@pytest.fixture(scope="module")
def pair(pg: Postgres) -> Iterator[tuple[Session, Session]]:
    sessions = Session(pg), Session(pg)
    yield sessions
    for session in sessions:
        session.close()


NASTY = [
    "", "'", "''", "\\", "\\'", "\\\\'", "'; set my.y = 'pwned", "\\'; set my.y = 'pwned'; --", "$$", "$a$'$a$", "a\nb",
    "\r\n", "/* ' */", "-- '", "E'\\''", '"', '"; set my.y = 1; --', "default", "null", "a, b", '"a, b"', " a ", "\x7f",
    "{}", "%s", "'||pg_sleep(9)||'", "\t", "x" * 5000, "\\x41", "\\u0041", "U&'\\0041'", "0", "-1", "1e3",
]  # fmt: skip
LATIN = [*NASTY, "é", "ÿ\\'", "¦é'", "'é\\"]
UNICODE = [*LATIN, "漢字'", "\U0001f600", "\u2028'", "表\\'"]  # 表 in SJIS ends with a backslash


@st.composite
def sets(draw: st.DrawFn) -> Set:
    """Settings that the server takes, with values it had better not take for SQL."""
    encoding = draw(st.sampled_from(["", "", "UTF8", "LATIN1", "utf-8"]))
    codec, nasty = ("latin-1", LATIN) if encoding == "LATIN1" else ("utf-8", UNICODE)
    alphabet = st.characters(codec=codec, exclude_characters="\0\x01", exclude_categories=["Cs"])
    text = st.sampled_from(nasty) | st.text(alphabet, max_size=12)

    def elements() -> bytes:
        found = draw(st.lists(text.filter(lambda t: len(t) < 60), min_size=1, max_size=3))
        return b"".join(b"\x01" + one.encode(codec) for one in found)

    user = draw(st.sampled_from([None, None, "app", "postgres"]))
    roles = ["none", "app"] if user == "app" else ["none", "app", "postgres", "pg_monitor"]
    values: dict[str, bytes] = {
        "my.x": draw(text).encode(codec),
        "my.y": draw(text).encode(codec),
        "your.z": draw(text).encode(codec),
        "application_name": draw(text).encode(codec)[:60],
        "search_path": draw(st.sampled_from([b"", b'a, "B c"', b'"$user", public', b'"a""b"']))
        if draw(st.booleans())
        else elements(),
        "work_mem": draw(st.sampled_from([b"64", b"64kB", b"2MB", b"1GB"])),
        "statement_timeout": draw(st.sampled_from([b"60000", b"1h", b"0"])),
        "datestyle": draw(st.sampled_from([b"sql, dmy", b"German", b"ISO, YMD"])),
        "timezone": draw(st.sampled_from([b"Europe/Rome", b"utc", b"-7", b"<+05>-05", b"<-08:30>+08:30"])),
        "standard_conforming_strings": draw(st.sampled_from([b"on", b"off"])),
        "backslash_quote": draw(st.sampled_from([b"on", b"off", b"safe_encoding"])),
        "escape_string_warning": b"on",
        "log_min_duration_statement": draw(st.sampled_from([b"-1", b"60000"])),  # superusers only
        "default_transaction_read_only": b"on",
        "default_transaction_isolation": b"serializable",
        "role": draw(st.sampled_from(roles)).encode(),
    }
    names = draw(st.sets(st.sampled_from(sorted(values))))
    if "application_name" in names and encoding != "LATIN1" and not values["application_name"].isascii():
        values["application_name"] = values["application_name"].decode(codec, "ignore").encode(codec)
    found = {name.encode(): values[name] for name in names}
    if encoding:
        found[b"client_encoding"] = encoding.encode()
    if user:
        found[b"session_authorization"] = user.encode()
    return found


def shown(session: Session, want: Set) -> None:
    """Custom settings and lists are, byte for byte, what was wanted."""
    for name in (b"my.x", b"my.y", b"your.z"):
        assert (session.row(b"select current_setting('" + name + b"', true)")[0] or b"") == want.get(name, b"")
    path = want.get(b"search_path")
    if path is not None and path.startswith(b"\x01"):
        quoted = [one.replace(b"\\", b"\\\\").replace(b"'", b"\\'") for one in path[1:].split(b"\x01")]
        assert session.run(b"set backslash_quote = on")
        text = b", ".join(b"pg_catalog.quote_ident(E'" + one + b"')" for one in quoted)
        expected = session.row(b"select pg_catalog.concat_ws(', ', " + text + b")")
        assert session.row(b"show search_path") == expected
    elif path is not None:
        assert session.row(b"show search_path") == [path]


@pytest.mark.edge_case(41, 43, 47, 48, 49)
@pytest.mark.timeout(120)
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@example({b"standard_conforming_strings": b"off"}, {b"my.x": b"\\'; set my.y = 'pwned'; --"}, False)
@example({b"backslash_quote": b"off"}, {b"my.x": b"\\'"}, True)
@given(sets(), sets(), st.booleans())
def test_ec41_the_server_is_led_to_exactly_what_is_wanted(
    pair: tuple[Session, Session], was: Set, want: Set, in_transaction: bool
) -> None:
    """From any state, as from none; both sessions look the same in every setting there is."""
    travelled, straight = pair
    for session in pair:
        session.fresh()
    travelled.replay(was)
    shown_before = travelled.state()
    if in_transaction:
        assert travelled.run(b"begin")
    travelled.replay(want, was, in_transaction)
    if in_transaction:
        assert travelled.run(b"commit")
    straight.replay(want)
    assert travelled.state() == straight.state()
    shown(travelled, want)
    travelled.fresh()
    travelled.replay(want)
    travelled.replay(was, want)
    assert travelled.state() == shown_before, "and back"


@pytest.mark.edge_case(48)
@pytest.mark.parametrize(
    ("was", "want"),
    [
        ({}, {b"role": b"nobody_of_this_name"}),
        ({}, {b"work_mem": b"much"}),
        ({b"my.x": b"1"}, {b"my.y": b"2", b"session_authorization": b"gone"}),
        ({}, {b"client_encoding": b"klingon", b"my.x": b"\xe9"}),
        ({}, {b"client_encoding": b"LATIN1", b"my.x": b"\xe9", b"role": b"gone"}),
    ],
)
def test_ec48_behind_a_refused_replay_nothing_runs(pair: tuple[Session, Session], was: Set, want: Set) -> None:
    session, other = pair
    for each in pair:
        each.fresh()
    session.replay(was)
    before = session.state()
    outcomes = [session.run(text) for text in sql(was, want)]
    assert outcomes[-1] is False
    for text in (b"select 1", b"begin", b"set my.x = 'leak'", b"discard all", b"savepoint a"):
        assert not session.run(text), "the failed block holds everything back"
        assert "25P02" in session.said or "aborted" in session.said
    assert session.run(b"rollback")
    assert session.state() == before
    assert other.run(b"select 1")


def test_asked_values_come_in_order_and_none_for_what_is_unknown(pair: tuple[Session, Session]) -> None:
    session, _ = pair
    session.fresh()
    session.replay({b"my.x": b"it's", b"search_path": b"\x01a b\x01c"})
    (text,) = queries(SettingsDoor.ask([b"search_path", b"never.heard_of", b"my.x"]))
    assert session.row(text) == [b"it's", None, b'"a b", c']
