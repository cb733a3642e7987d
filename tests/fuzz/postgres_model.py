"""A PostgreSQL backend small enough to be certain of: what it answers to which message, and when it is idle.

Written from postgres.c and the manual's "Message Flow", apart from the proxy's own queue of replies owed. SQL is a few
words: `select 'tag' [rows]`, `begin`, `commit`, `rollback [to]`, `savepoint`, `copy in`, `copy out 'tag'`, `set 'tag'`,
`notice 'tag'`, several with `;`; whatever else, `error 'tag'` for one, is a syntax error. What a request is answered
carries its tag, so that a test sees whose answer it got.

Settings obey transactions and savepoints as guc.c has it: `set [local] name = 'v'`, `reset name`, `reset all`,
`show name`, `select set_config('name', 'v' || '', false)`, `discard all`. application_name is reported in front of
ReadyForQuery where it has changed (PostgreSQL 14). The proxy's own texts are among these.
"""

import re
from dataclasses import dataclass, field

from tests.harness import messages as m

_TAG = re.compile(r"'([^']*)'")
_SET = re.compile(r"set (local )?([\w.\"]+) (?:=|to) '([^']*)'", re.IGNORECASE)
_RESET = re.compile(r"reset ([\w.\"]+)", re.IGNORECASE)
_SET_CONFIG = re.compile(r"select set_config\('([\w.]+)', '([^']*)'.*, (true|false)\)")
_CURRENT = re.compile(r"pg_catalog\.current_setting\('([\w.]+)',true\)")
_KINDS = b"BCDEFHPQSXcdf"
_EMPTY = frozenset(b"HSXc")


class _Failed(Exception):
    """An ERROR: (SQLSTATE, text)."""


@dataclass
class Model:
    """`feed` it bytes, let it `step` through its messages one by one."""

    status: str = "I"
    copying: bool = False  # in copy-in
    ignoring: bool = False  # up to the next Sync
    closed: bool = False
    unread: bytes = b""
    handled: int = 0  # messages
    base: dict[str, str] = field(default_factory=dict)  # settings at the session's beginning
    settings: dict[str, str] = field(default_factory=dict)
    _local: dict[str, str] = field(default_factory=dict)
    _before: dict[str, str] | None = None  # the transaction, explicit or not
    _savepoints: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    _reported: str = ""
    _by_query: bool = False  # the COPY was begun by a Query
    _rest: list[str] = field(default_factory=list)  # of the Query whose COPY is under way
    _statements: dict[bytes, str] = field(default_factory=dict)
    _portals: dict[bytes, list[str]] = field(default_factory=dict)  # [sql, rows already given]

    def __post_init__(self) -> None:
        self.settings = dict(self.base)
        self._reported = self._value("application_name") or ""

    @property
    def idle(self) -> bool:
        return not (self.copying or self.ignoring or self.closed)

    def feed(self, data: bytes) -> None:
        self.unread += data

    def step(self) -> bytes | None:
        """The answer to the next message; None while it is not all there."""
        if self.closed or len(self.unread) < 5:
            return None
        kind, length = self.unread[0], int.from_bytes(self.unread[1:5])
        if kind not in _KINDS or length < 4 or length > 1 << 20 or (kind in _EMPTY and length != 4):
            return self._fatal("08P01", "invalid message")
        if len(self.unread) <= length:
            return None
        body, self.unread = self.unread[5 : length + 1], self.unread[length + 1 :]
        self.handled += 1
        return self._message(chr(kind), body)

    def run(self) -> bytes:
        found = []
        while (answer := self.step()) is not None:
            found.append(answer)
        return b"".join(found)

    def _fatal(self, state: str, text: str) -> bytes:
        self.closed = True
        return m.error(state, text, "FATAL")

    def _message(self, kind: str, body: bytes) -> bytes:
        if kind == "X":
            self.closed = True
            return b""
        if self.copying:
            return self._during_copy(kind, body)
        if kind == "S":
            self.ignoring = False
            self._end_implicit()
            return self._ready()
        if self.ignoring or kind in "Hdcf":
            return b""
        try:
            match kind:
                case "Q":
                    self._statements.pop(b"", None)
                    self._portals.pop(b"", None)
                    return self._simple(self._text(body))
                case "F":
                    self._may()
                    return m.message("V", b"\xff\xff\xff\xff") + self._ready()
                case _:
                    return {
                        "P": self._parse,
                        "B": self._bind,
                        "D": self._describe,
                        "E": self._execute,
                        "C": self._close,
                    }[kind](body)
        except _Failed as failed:
            return self._error(failed, simple=kind in "QF")

    def _error(self, failed: _Failed, *, simple: bool) -> bytes:
        if self.status == "I":
            self._finish(commit=False)
        else:
            self._abort()
        answer = m.error(*failed.args)
        if simple:
            return answer + self._ready()
        self.ignoring = True
        return answer

    def _text(self, body: bytes) -> str:
        if body.find(b"\0") != len(body) - 1:
            raise _Failed("08P01", "invalid string in message")
        return body[:-1].decode("latin-1")

    def _may(self) -> None:
        if self.status == "E":
            raise _Failed("25P02", "current transaction is aborted")

    def _end_implicit(self) -> None:
        if self.status == "I":
            self._portals.clear()
            self._finish(commit=True)

    # ------------------------------------------------------------ settings

    def _value(self, name: str) -> str | None:
        return self._local.get(name, self.settings.get(name))

    def _ready(self) -> bytes:
        now = self._value("application_name") or ""
        news = m.parameter_status("application_name", now) if now != self._reported else b""
        self._reported = now
        return news + m.ready(self.status)

    def _begin(self) -> None:
        if self._before is None:
            self._before = dict(self.settings)

    def _finish(self, *, commit: bool) -> None:
        """Of the transaction."""
        if not commit and self._before is not None:
            self.settings = self._before
        self._local, self._before, self._savepoints = {}, None, []

    def _abort(self) -> None:
        """An error in a transaction block: what was set in it, or since its last savepoint, is taken back at once."""
        if self.status == "T" and self._savepoints:
            _, self.settings, self._local = (self._savepoints[-1][0], *map(dict, self._savepoints[-1][1:]))
        elif self.status == "T" and self._before is not None:
            self.settings, self._local = dict(self._before), {}
        self.status = "E"

    def _set(self, name: str, value: str | None, *, local: bool) -> None:
        name = name.replace('"', "").lower()
        if value is None:
            value = self.base.get(name)
        if local and value is not None:
            self._local[name] = value
            return
        self._local.pop(name, None)
        if value is None:
            self.settings.pop(name, None)
        else:
            self.settings[name] = value

    def _rollback_to(self, name: str) -> bytes:
        if self.status == "I":
            raise _Failed("25P01", "ROLLBACK TO SAVEPOINT can only be used in transaction blocks")
        at = max((i for i, one in enumerate(self._savepoints) if one[0] == name), default=-1)
        if at < 0:
            raise _Failed("3B001", "savepoint does not exist")
        del self._savepoints[at + 1 :]
        _, settings, local = self._savepoints[at]
        self.settings, self._local, self.status = dict(settings), dict(local), "T"
        return m.complete("ROLLBACK")

    def _discard(self, what: str) -> bytes:
        if what == "all" and self.status != "I":
            raise _Failed("25001", "DISCARD ALL cannot run inside a transaction block")
        if what == "all":
            self._statements.clear()
            self._portals.clear()
            self.settings, self._local = dict(self.base), {}
        return m.complete(f"DISCARD {what.upper()}")

    def _deallocate(self, name: str) -> bytes:
        if name == "all":
            self._statements.clear()
            return m.complete("DEALLOCATE ALL")
        if self._statements.pop(name.encode(), None) is None:
            raise _Failed("26000", "prepared statement does not exist")
        return m.complete("DEALLOCATE")

    # ------------------------------------------------------------ statements

    def _simple(self, text: str) -> bytes:
        if not text.strip():
            return m.message("I") + self._ready()
        return self._statements_of([part.strip() for part in text.split(";") if part.strip()])

    def _statements_of(self, parts: list[str]) -> bytes:
        said = b""
        try:
            while parts:
                sql = parts.pop(0)
                if sql.startswith("copy in"):
                    self._may()
                    self.copying, self._by_query, self._rest = True, True, parts
                    return said + m.message("G", b"\0\0\1\0\0")
                said += (m.row_description("c") if sql.startswith("select") else b"") + self._one(sql)
        except _Failed as failed:
            return said + self._error(failed, simple=True)
        if self.status == "I":
            self._finish(commit=True)
        return said + self._ready()

    def _one(self, sql: str) -> bytes:
        """One statement to its end: rows and CommandComplete."""
        word, _, rest = sql.lower().partition(" ")
        self._begin()
        if word == "rollback" and rest.startswith("to "):
            return self._rollback_to(rest[3:])
        if word in ("commit", "rollback"):
            done = word == "commit" and self.status != "E"
            self._finish(commit=done)
            self.status = "I"
            return m.complete("COMMIT" if done else "ROLLBACK")
        self._may()
        match word:
            case "begin":
                self.status = "T"
                return m.complete("BEGIN")
            case "savepoint" if self.status == "I":
                raise _Failed("25P01", "SAVEPOINT can only be used in transaction blocks")
            case "savepoint":
                self._savepoints.append((rest, dict(self.settings), dict(self._local)))
                return m.complete("SAVEPOINT")
            case "select" if names := _CURRENT.findall(sql):
                return m.row(*map(self._value, names)) + m.complete("SELECT 1")
            case "select" if called := _SET_CONFIG.match(sql):
                self._set(called[1], called[2], local=called[3] == "true")
                return m.row(called[2]) + m.complete("SELECT 1")
            case "show":
                return m.row(self._value(rest) or "") + m.complete("SHOW")
            case "set" if found := _SET.fullmatch(sql):
                self._set(found[2], found[3], local=bool(found[1]))
                return m.complete("SET")
            case "reset" if rest == "all":
                self.settings, self._local = dict(self.base), {}
                return m.complete("RESET")
            case "reset" if found := _RESET.fullmatch(sql):
                self._set(found[1], None, local=False)
                return m.complete("RESET")
            case "discard":
                return self._discard(rest)
            case "deallocate":
                return self._deallocate(rest)
            case "select":
                rows = self._rows(sql)
                return b"".join(map(m.row, rows)) + m.complete(f"SELECT {len(rows)}")
            case "copy":
                out = b"".join(m.copy_data(row.encode()) for row in self._rows(sql))
                return m.message("H", b"\0\0\1\0\0") + out + m.message("c") + m.complete("COPY 1")
            case "set":
                return m.parameter_status("application_name", (_TAG.search(sql) or ["", ""])[1]) + m.complete("SET")
            case "notice":
                return m.notice(sql) + m.complete("DO")
        raise _Failed("42601", sql)

    def _rows(self, sql: str) -> list[str]:
        tag = _TAG.search(sql)
        count = re.search(r"' ([0-9]+)", sql)
        return [tag[1] if tag else "?"] * min(int(count[1]) if count else 1, 20_000)

    def _during_copy(self, kind: str, body: bytes) -> bytes:
        if kind in "dSH":
            return b""
        self.copying = False
        rest, self._rest = self._rest, []
        if kind == "c":
            return m.complete("COPY 1") + (self._statements_of(rest) if self._by_query else b"")
        if kind == "f":
            return self._error(_Failed("57014", "COPY from stdin failed"), simple=self._by_query)
        return m.error("08P01", "unexpected message type during COPY") + self._fatal("08P01", "lost synchronization")

    # ------------------------------------------------------------ extended protocol

    def _parse(self, body: bytes) -> bytes:
        name, _, rest = body.partition(b"\0")
        text, nul, _ = rest.partition(b"\0")
        sql = text.decode("latin-1")
        if not nul:
            raise _Failed("08P01", "invalid Parse")
        if sql.split(" ", 1)[0] not in ("commit", "rollback"):
            self._may()
        if name and name in self._statements:
            raise _Failed("42P05", "prepared statement already exists")
        if sql.startswith("bad"):
            raise _Failed("42601", sql)
        self._statements[name] = sql
        return m.message("1")

    def _bind(self, body: bytes) -> bytes:
        portal, name, *rest = [*body.split(b"\0", 2), b"", b""][:3]
        if name not in self._statements:
            raise _Failed("26000", "prepared statement does not exist")
        sql = self._statements[name]
        if sql.split(" ", 1)[0] not in ("commit", "rollback"):
            self._may()
        if not rest[0]:
            raise _Failed("08P01", "invalid Bind")
        self._portals[portal] = [sql, "0"]
        return m.message("2")

    def _describe(self, body: bytes) -> bytes:
        name = body[1:].partition(b"\0")[0]
        if body[:1] == b"S":
            if name not in self._statements:
                raise _Failed("26000", "prepared statement does not exist")
            sql = self._statements[name]
            return m.message("t", b"\0\0") + (m.row_description("c") if sql.startswith("select") else m.message("n"))
        if body[:1] != b"P" or name not in self._portals:
            raise _Failed("34000", f"portal {name!r} does not exist")
        return m.row_description("c") if self._portals[name][0].startswith("select") else m.message("n")

    def _execute(self, body: bytes) -> bytes:
        name, _, limit = body.partition(b"\0")
        if name not in self._portals or len(limit) != 4:
            raise _Failed("34000", f"portal {name!r} does not exist")
        portal = self._portals[name]
        sql, most = portal[0], int.from_bytes(limit) & 0x7FFFFFFF
        if not sql.strip():
            return m.message("I")
        if sql.startswith("copy in"):
            self._may()
            self.copying, self._by_query, self._rest = True, False, []
            return m.message("G", b"\0\0\1\0\0")
        if sql.startswith("select") and most:
            self._may()
            rows, given = self._rows(sql), int(portal[1])
            portal[1] = str(given + most)
            now = b"".join(map(m.row, rows[given : given + most]))
            return now + (m.message("s") if given + most < len(rows) else m.complete(f"SELECT {len(rows)}"))
        return self._one(sql)

    def _close(self, body: bytes) -> bytes:
        name = body[1:].partition(b"\0")[0]
        (self._statements if body[:1] == b"S" else self._portals).pop(name, None)
        return m.message("3")
