"""A PostgreSQL backend small enough to be certain of: what it answers to which message, and when it is idle.

Written from postgres.c and the manual's "Message Flow", apart from the proxy's own queue of replies owed. SQL is a few
words: `select 'tag' [rows]`, `begin`, `commit`, `rollback`, `copy in`, `copy out 'tag'`, `set 'tag'`, `notice 'tag'`,
several with `;`; whatever else, `error 'tag'` for one, is a syntax error. What a request is answered carries its tag,
so that a test sees whose answer it got.
"""

import re
from dataclasses import dataclass, field

from tests.harness import messages as m

_TAG = re.compile(r"'([^']*)'")
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
    _by_query: bool = False  # the COPY was begun by a Query
    _rest: list[str] = field(default_factory=list)  # of the Query whose COPY is under way
    _statements: dict[bytes, str] = field(default_factory=dict)
    _portals: dict[bytes, list[str]] = field(default_factory=dict)  # [sql, rows already given]

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
            return m.ready(self.status)
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
                    return m.message("V", b"\xff\xff\xff\xff") + m.ready(self.status)
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
        self.status = "E" if self.status != "I" else "I"
        answer = m.error(*failed.args)
        if simple:
            return answer + m.ready(self.status)
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

    # ------------------------------------------------------------ statements

    def _simple(self, text: str) -> bytes:
        if not text.strip():
            return m.message("I") + m.ready(self.status)
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
        return said + m.ready(self.status)

    def _one(self, sql: str) -> bytes:
        """One statement to its end: rows and CommandComplete."""
        word = sql.split(" ", 1)[0].lower()
        if word in ("commit", "rollback"):
            self.status = "I"
            return m.complete(word.upper())
        self._may()
        match word:
            case "begin":
                self.status = "T"
                return m.complete("BEGIN")
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
