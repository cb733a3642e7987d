"""What a client may do next: one simple query, or one batch of the extended protocol. Hypothesis chooses.

Everything here is state that can be tracked by value: nothing that must pin a session (temporary tables, LISTEN,
SQL-level PREPARE, expressions in set_config), and no lock that another client could wait for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.harness.messages import bind, close, describe, execute, parse, query, sync

OBSERVE = """\
select current_setting('search_path'), current_setting('timezone'), current_setting('datestyle'),
 current_setting('statement_timeout'), current_setting('work_mem'), current_setting('application_name'),
 coalesce(current_setting('my.var', true), ''), current_setting('default_transaction_isolation'),
 current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('client_encoding'),
 current_user, session_user, current_setting('role'), timestamptz '2026-11-02 12:00Z'::text, chr(233),
 (select relnamespace::regnamespace::text from pg_class where oid = to_regclass('t'))"""
# my.var: null until somebody set it on that very connection, '' ever after, and nothing takes that back. So no proxy
# can show null again once a connection has had it, and `coalesce` hides the difference.


@dataclass(frozen=True)
class Simple:
    sql: str

    @property
    def raw(self) -> bytes:
        return query(self.sql)

    def __str__(self) -> str:
        return "observe" if self.sql == OBSERVE else self.sql


@dataclass(frozen=True)
class Parse:
    name: str
    sql: str

    @property
    def raw(self) -> bytes:
        return parse(self.sql, self.name)

    def __str__(self) -> str:
        return f"Parse {self.name!r} {'observe' if self.sql == OBSERVE else self.sql}"


@dataclass(frozen=True)
class Run:
    """Bind and Execute, as drivers send them."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def raw(self) -> bytes:
        return bind(*self.values, statement=self.name) + describe("P") + execute()

    def __str__(self) -> str:
        return f"Bind {self.name!r}{''.join(f' {v!r}' for v in self.values)} Describe Execute"


@dataclass(frozen=True)
class Describe:
    name: str

    @property
    def raw(self) -> bytes:
        return describe("S", self.name)

    def __str__(self) -> str:
        return f"Describe {self.name!r}"


@dataclass(frozen=True)
class Close:
    name: str

    @property
    def raw(self) -> bytes:
        return close("S", self.name)

    def __str__(self) -> str:
        return f"Close {self.name!r}"


@dataclass(frozen=True)
class Batch:
    parts: tuple[Parse | Run | Describe | Close, ...]

    @property
    def raw(self) -> bytes:
        return b"".join(part.raw for part in self.parts) + sync()

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts)) + " | Sync"


Step = Simple | Batch

# settings by their SQL spelling; the last of each is refused by the server
_VALUES = {
    "search_path": ("s1", "s2", "s1, s2", "'s2', \"s1\"", "''", '"$user", public', "no_such, s2", "pg_catalog"),
    "timezone": ("'UTC'", "'Asia/Tokyo'", "'America/New_York'", "utc", "'Nowhere/At all'"),
    "datestyle": ("'ISO, MDY'", "'SQL, DMY'", "german", "dmy", "iso", "'never'"),
    "statement_timeout": ("0", "'30s'", "45000", "'1min'", "-5"),
    "work_mem": ("'64kB'", "'7MB'", "128", "'lots'"),
    "application_name": ("'it''s'", "''", "plain", "'a;b'", "E'tab\\there'"),
    "my.var": ("'a'", "''", "'quo''te'", "'semi;colon'", "'$x$'", "E'back\\\\slash'", "word", "17"),
    "default_transaction_isolation": ("'serializable'", "'repeatable read'", "'read committed'", "'none'"),
    "client_encoding": ("'latin1'", "utf8", "'klingon'"),
    "default_transaction_read_only": ("on", "off", "true", "'perhaps'"),
}
_FORMS = (
    "set {name} = {value}", "set {name} to {value}", "set session {name} = {value}", "set local {name} = {value}",
    "set local {name} to {value}", "reset {name}", "set {name} to default", "/* a */ set {name} = {value};",
    'sEt  /* ; */ SESSION "{name}"\n= {value} -- end',
)  # fmt: skip
_CONFIG = {  # for set_config, where a list is one string
    "search_path": ("s1", "s2", "s2, s1", ""),
    "timezone": ("UTC", "Asia/Tokyo", "Nowhere"),
    "datestyle": ("German", "ISO, DMY", "ymd"),
    "work_mem": ("9MB", "64kB"),
    "my.var": ("c", "it''s", ""),
    "application_name": ("c", ""),
    "role": ("clerk", "none", "nobody at all"),
    "statement_timeout": ("20s", "0"),
}
_ZONES = (
    "set time zone 'Europe/Berlin'", "set time zone utc", "set time zone local", "set time zone default",
    "set time zone -7", "set session time zone 'UTC'", "set local time zone 'Asia/Tokyo'", "reset time zone",
    "set time zone interval '+03:30' hour to minute", "set time zone 'No/Where'",
)  # fmt: skip
_NAMES = ("set names 'latin1'", "set names 'utf8'", "set names default", "set names", "reset client_encoding")
_ROLES = (
    "set role clerk", "set role guest", "set role 'clerk'", "set session role guest", "set local role clerk",
    "set role none", "reset role", "set role no_such_role", "set role boss",
)  # fmt: skip
_AUTHORIZATIONS = (
    "set session authorization app", "set session authorization default", "reset session authorization",
    "set session authorization clerk", "set local session authorization guest", "set session authorization 'app'",
)  # fmt: skip
_CHARACTERISTICS = (
    "set session characteristics as transaction isolation level serializable",
    "set session characteristics as transaction isolation level read committed, read write",
    "set session characteristics as transaction read only",
    "set transaction isolation level repeatable read",
    "set transaction read only",
)
_RESETS = ("reset all", "discard all", "RESET ALL /* all */", "discard plans", "discard sequences")
_BEGINS = (
    "begin", "begin", "BEGIN", "start transaction", "begin isolation level repeatable read", "begin read only",
    "start transaction isolation level serializable, read only",
)  # fmt: skip
_ENDS = ("commit", "commit", "rollback", "rollback", "end", "abort", "commit and chain", "rollback and chain")
_SAVEPOINTS = (
    "savepoint a", "savepoint b", "rollback to a", "rollback to savepoint b", "release a", "release savepoint b",
)  # fmt: skip
_ERRORS = ("select 1/0", "selec", "select * from missing", "")
_FORGETTING = ("deallocate a", "deallocate prepare b", 'deallocate "a"', "deallocate all", "deallocate never_there")

NAMES = ("a", "b", "")
_STATEMENTS = (
    "select v from t", "select v from t", "select v || $1 from t", OBSERVE, OBSERVE, "select 1/0", "select v from tt",
    "set search_path = s2", "set search_path to s1, s2", "set timezone = 'Asia/Tokyo'", "set role clerk", "reset role",
    "set local search_path = s1", "select set_config('search_path', 's1', false)", "reset all", "set my.var = 'p'",
    "select set_config('my.var', 'q', true)", "begin", "commit", "rollback", "savepoint a", "rollback to a",
    "deallocate all", "discard all", "",  # not "deallocate a": by the protocol, the name in it is not translated
)  # fmt: skip


def _one_of(*sentences: Sequence[str]) -> st.SearchStrategy[str]:
    return st.one_of(*(st.sampled_from(each) for each in sentences))


@st.composite
def _assignment(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(_VALUES)))
    value = draw(st.sampled_from(_VALUES[name]))
    form = draw(st.sampled_from(_FORMS))
    if "." in name:
        form = form.replace('"', "")
    return form.format(name=name, value=value)


@st.composite
def _set_config(draw: st.DrawFn) -> str:
    calls = []
    for _ in range(draw(st.sampled_from((1, 1, 1, 2)))):
        name = draw(st.sampled_from(sorted(_CONFIG)))
        value, local = draw(st.sampled_from(_CONFIG[name])), draw(st.sampled_from(("false", "false", "true")))
        calls.append(f"{draw(st.sampled_from(('', 'pg_catalog.')))}set_config('{name}', '{value}', {local})")
    return f"select {', '.join(calls)}"


def _fragments() -> st.SearchStrategy[str]:
    changing = st.one_of(
        _assignment(), _assignment(), _set_config(), _one_of(_ZONES, _NAMES, _ROLES, _AUTHORIZATIONS, _CHARACTERISTICS)
    )
    return st.one_of(changing, changing, changing, _one_of(_BEGINS, _ENDS, _SAVEPOINTS, _ERRORS))


@st.composite
def _text(draw: st.DrawFn) -> Simple:
    """Several statements in one text: one implicit transaction, unless they say otherwise."""
    return Simple("; ".join(draw(st.lists(_fragments(), min_size=2, max_size=4))))


@st.composite
def _part(draw: st.DrawFn) -> Parse | Run | Describe | Close:
    name = draw(st.sampled_from(NAMES))
    kind = draw(st.sampled_from("PPRRRRDC"))
    if kind == "P":
        return Parse(name, draw(st.sampled_from(_STATEMENTS)))
    if kind == "R":
        return Run(name, draw(st.sampled_from(((), (), (), ("!",)))))
    return Describe(name) if kind == "D" else Close(name)


@st.composite
def _use(draw: st.DrawFn) -> Batch:
    """What a driver does: prepare, describe, run, in one batch or in two."""
    name, sql = draw(st.sampled_from(NAMES)), draw(st.sampled_from(_STATEMENTS))
    values = ("!",) if "$1" in sql else ()
    shape = draw(st.integers(0, 2))
    if shape == 0:
        return Batch((Parse(name, sql), Describe(name)))
    if shape == 1:
        return Batch((Close(name), Parse(name, sql), Run(name, values)))
    return Batch((Parse("", sql), Run("", values)))


def steps() -> st.SearchStrategy[Step]:
    batch = st.lists(_part(), min_size=1, max_size=4).map(lambda parts: Batch(tuple(parts)))
    return st.one_of(
        st.just(Simple(OBSERVE)),
        _assignment().map(Simple),
        _assignment().map(Simple),
        _set_config().map(Simple),
        _one_of(_ZONES, _NAMES, _ROLES, _AUTHORIZATIONS, _CHARACTERISTICS, _RESETS).map(Simple),
        _one_of(_BEGINS).map(Simple),
        _one_of(_ENDS, _SAVEPOINTS, _SAVEPOINTS).map(Simple),
        st.sampled_from((*_ERRORS, "select v from t", *_FORGETTING)).map(Simple),
        _text(),
        _use(),
        batch,
    )
