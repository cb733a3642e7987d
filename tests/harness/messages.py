"""Messages of the PostgreSQL wire protocol, built and read by name, for FakeClient and FakeServer.

Written apart from the proxy's own protocol code on purpose: a test that shares the code it tests proves nothing.
`query("select 1")`, `row("1")` build bytes; what arrives is a `Message` whose `name` is the manual's.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = (3 << 16) | 2
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSSENC_REQUEST = struct.pack("!ii", 8, 80877104)
_CANCEL_CODE = 80877102

FROM_SERVER = {
    "R": "Authentication", "K": "BackendKeyData", "2": "BindComplete", "3": "CloseComplete", "C": "CommandComplete",
    "d": "CopyData", "c": "CopyDone", "G": "CopyInResponse", "H": "CopyOutResponse", "W": "CopyBothResponse",
    "D": "DataRow", "I": "EmptyQueryResponse", "E": "ErrorResponse", "V": "FunctionCallResponse",
    "v": "NegotiateProtocolVersion", "n": "NoData", "N": "NoticeResponse", "A": "NotificationResponse",
    "t": "ParameterDescription", "S": "ParameterStatus", "1": "ParseComplete", "s": "PortalSuspended",
    "Z": "ReadyForQuery", "T": "RowDescription",
}  # fmt: skip
FROM_CLIENT = {
    "B": "Bind", "C": "Close", "d": "CopyData", "c": "CopyDone", "f": "CopyFail", "D": "Describe", "E": "Execute",
    "H": "Flush", "F": "FunctionCall", "P": "Parse", "p": "Password", "Q": "Query", "S": "Sync", "X": "Terminate",
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """One message as received. `kind` is its first byte (as a letter), "" for an untyped startup packet."""

    kind: str
    name: str
    body: bytes

    @property
    def raw(self) -> bytes:
        return message(self.kind, self.body)

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse, by field letter: S, V, C, M …"""
        parts = self.body.rstrip(b"\0").split(b"\0")
        return {chr(part[0]): part[1:].decode() for part in parts if part}

    @property
    def status(self) -> str:
        """Of a ReadyForQuery: I, T or E."""
        return self.body.decode()

    @property
    def values(self) -> list[bytes | None]:
        """Of a DataRow."""
        (count,), at, found = struct.unpack_from("!h", self.body), 2, list[bytes | None]()
        for _ in range(count):
            (size,) = struct.unpack_from("!i", self.body, at)
            at += 4
            found.append(None if size < 0 else self.body[at : at + size])
            at += max(size, 0)
        return found

    @property
    def strings(self) -> list[str]:
        """The body read as zero-terminated strings: ParameterStatus, CommandComplete, Query."""
        return [part.decode() for part in self.body.rstrip(b"\0").split(b"\0")]


# building


def cstr(text: str | bytes) -> bytes:
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def startup(
    user: str = "app",
    database: str | None = "test",
    more: Mapping[str, str] | None = None,
    *,
    version: int = PROTOCOL_3_0,
) -> bytes:
    words = {"user": user, **({"database": database} if database is not None else {}), **(more or {})}
    body = struct.pack("!i", version) + b"".join(cstr(k) + cstr(v) for k, v in words.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    return struct.pack("!iii", 12 + len(key), _CANCEL_CODE, pid) + key


def query(sql: str | bytes) -> bytes:
    return message("Q", cstr(sql))


def parse(sql: str, name: str = "", types: tuple[int, ...] = ()) -> bytes:
    return message("P", cstr(name) + cstr(sql) + struct.pack(f"!h{len(types)}I", len(types), *types))


def bind(
    *values: bytes | str | None, statement: str = "", portal: str = "", formats: tuple[int, ...] = (), results: int = 0
) -> bytes:
    """`formats` of the parameters, `results` the format of all result columns."""
    body = cstr(portal) + cstr(statement) + struct.pack(f"!h{len(formats)}h", len(formats), *formats)
    body += struct.pack("!h", len(values))
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message("B", body + struct.pack("!hh", 1, results))


def describe(what: str = "P", name: str = "") -> bytes:
    return message("D", what.encode() + cstr(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message("E", cstr(portal) + struct.pack("!i", limit))


def close(what: str = "S", name: str = "") -> bytes:
    return message("C", what.encode() + cstr(name))


def sync() -> bytes:
    return message("S")


def flush() -> bytes:
    return message("H")


def terminate() -> bytes:
    return message("X")


def copy_data(data: bytes) -> bytes:
    return message("d", data)


def copy_done() -> bytes:
    return message("c")


def copy_fail(why: str) -> bytes:
    return message("f", cstr(why))


def authentication_ok() -> bytes:
    return message("R", struct.pack("!i", 0))


def parameter_status(name: str, value: str) -> bytes:
    return message("S", cstr(name) + cstr(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    return message("K", struct.pack("!i", pid) + key)


def ready(status: str = "I") -> bytes:
    return message("Z", status.encode())


def row_description(*columns: str) -> bytes:
    """Every column is text (oid 25)."""
    fields = (cstr(name) + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for name in columns)
    return message("T", struct.pack("!h", len(columns)) + b"".join(fields))


def row(*values: str | bytes | None) -> bytes:
    body = struct.pack("!h", len(values))
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if raw is None else struct.pack("!i", len(raw)) + raw
    return message("D", body)


def complete(tag: str = "SELECT 1") -> bytes:
    return message("C", cstr(tag))


def error(sqlstate: str = "XX000", text: str = "made up", severity: str = "ERROR") -> bytes:
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text}
    return message("E", b"".join(k.encode() + cstr(v) for k, v in fields.items()) + b"\0")


def notice(text: str) -> bytes:
    fields = {"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": text}
    return message("N", b"".join(k.encode() + cstr(v) for k, v in fields.items()) + b"\0")


def notification(pid: int, channel: str, payload: str = "") -> bytes:
    return message("A", struct.pack("!i", pid) + cstr(channel) + cstr(payload))


def answer(*rows: str, column: str = "?column?") -> bytes:
    """A whole reply to a simple query: description, one-column rows, completion, ready."""
    return row_description(column) + b"".join(row(r) for r in rows) + complete(f"SELECT {len(rows)}") + ready()
