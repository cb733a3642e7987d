"""Builders and parsers of the messages of startup, authentication and login (PostgreSQL protocol 3, both directions).

The cold path only: one call, one `bytes`. Queries and rows of clients never pass here; the engines `_frontend` and
`_backend` read those in place. Parsers raise `ProtocolViolation` for anything the manual does not allow. Knows no
socket. https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from proxy.errors import ProtocolViolation, ProxyError

PROTOCOL_3_0 = 0x30000
PROTOCOL_3_2 = 0x30002
SSL_REQUEST_CODE = 80877103
GSSENC_REQUEST_CODE = 80877104
CANCEL_REQUEST_CODE = 80877102
MAX_CANCEL_KEY = 256  # bytes, since protocol 3.2


class Auth(IntEnum):
    """The code of an Authentication message."""

    OK = 0
    KERBEROS_V5 = 2
    CLEARTEXT_PASSWORD = 3
    MD5_PASSWORD = 5
    GSS = 7
    GSS_CONTINUE = 8
    SSPI = 9
    SASL = 10
    SASL_CONTINUE = 11
    SASL_FINAL = 12


_HEAD = Struct("!BI")
_AUTH = Struct("!BII")
_U32 = Struct("!I")
_U32X2 = Struct("!II")

SSL_REQUEST = _U32X2.pack(8, SSL_REQUEST_CODE)
AUTHENTICATION_OK = _AUTH.pack(0x52, 8, Auth.OK)
READY_FOR_QUERY_IDLE = b"Z\x00\x00\x00\x05I"
TERMINATE = b"X\x00\x00\x00\x04"


def message(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body) + 4) + body


# --- from us as a server


def authentication(code: Auth, data: bytes = b"") -> bytes:
    return _AUTH.pack(0x52, len(data) + 8, code) + data


def authentication_sasl(mechanisms: Iterable[bytes]) -> bytes:
    return authentication(Auth.SASL, b"".join(name + b"\0" for name in mechanisms) + b"\0")


def backend_key_data(pid: int, key: bytes) -> bytes:
    return b"K" + _U32X2.pack(len(key) + 8, pid) + key


def parameter_status(name: bytes, value: bytes) -> bytes:
    return message(0x53, name + b"\0" + value + b"\0")


def negotiate_protocol_version(version: int, options: Iterable[bytes]) -> bytes:
    names = list(options)
    return message(0x76, _U32X2.pack(version, len(names)) + b"".join(name + b"\0" for name in names))


def error_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """The body of an ErrorResponse or NoticeResponse. A client's own bytes in a text come back as they came."""
    return (
        b"".join(
            code.encode() + text.replace("\0", "").encode("utf-8", "surrogateescape") + b"\0" for code, text in fields
        )
        + b"\0"
    )


def error_response(error: ProxyError) -> bytes:
    fields = [("S", error.severity), ("V", error.severity), ("C", error.sqlstate), ("M", error.pg_text)]
    if error.detail:
        fields.append(("D", error.detail))
    if error.hint:
        fields.append(("H", error.hint))
    return message(0x45, error_fields(fields))


# --- from us as a client


def startup_message(parameters: Iterable[tuple[str, str]], version: int = PROTOCOL_3_0) -> bytes:
    body = b"".join(
        name.encode("utf-8", "surrogateescape") + b"\0" + value.encode("utf-8", "surrogateescape") + b"\0"
        for name, value in parameters
    )
    return _U32X2.pack(len(body) + 9, version) + body + b"\0"


def cancel_request(pid: int, key: bytes) -> bytes:
    return _U32.pack(len(key) + 12) + _U32X2.pack(CANCEL_REQUEST_CODE, pid) + key


def password_message(password: bytes) -> bytes:
    return message(0x70, password + b"\0")


def sasl_initial_response(mechanism: bytes, data: bytes) -> bytes:
    return message(0x70, mechanism + b"\0" + _U32.pack(len(data)) + data)


def sasl_response(data: bytes) -> bytes:
    return message(0x70, data)


def query(text: bytes) -> bytes:
    return message(0x51, text + b"\0")


# --- parsers, client's messages


def parse_sasl_initial_response(body: bytes) -> tuple[bytes, bytes | None]:
    """(mechanism, data); data is None where the client sends none (length -1)."""
    mechanism, found, rest = body.partition(b"\0")
    if not found or len(rest) < 4:
        raise ProtocolViolation("invalid SASL initial response")
    if rest[:4] == b"\xff\xff\xff\xff":
        if len(rest) != 4:
            raise ProtocolViolation("invalid SASL initial response")
        return mechanism, None
    if int.from_bytes(rest[:4]) != len(rest) - 4:
        raise ProtocolViolation("invalid SASL initial response")
    return mechanism, rest[4:]


def parse_password(body: bytes) -> bytes:
    """A PasswordMessage's password: one string, nothing behind it."""
    if not body or body.find(b"\0") != len(body) - 1:
        raise ProtocolViolation("invalid password packet size")
    return body[:-1]


# --- parsers, server's messages


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """What an ErrorResponse or NoticeResponse said. A missing field is an empty text: servers leave out even the
    SQLSTATE.
    """

    severity: str
    sqlstate: str
    text: str

    def __str__(self) -> str:
        return f"{self.severity or 'ERROR'} {self.sqlstate or '(no SQLSTATE)'}: {self.text}"


def fatal(error: bytes) -> bytes:
    """A whole ErrorResponse with severity FATAL, as the server would have said it at a login.."""
    fields = [field for field in error[5:].split(b"\0") if field]
    changed = [field[:1] + b"FATAL" if field[:1] in (b"S", b"V") else field for field in fields]
    return message(0x45, b"".join(field + b"\0" for field in changed) + b"\0")


def parse_error(body: bytes) -> ErrorFields:
    """Lenient on purpose: what is wrong here is about to be logged, and a malformed error is still an error."""
    found: dict[int, str] = {}
    for field in body.split(b"\0"):
        if not field:
            break
        found.setdefault(field[0], field[1:].decode("utf-8", "replace"))
    return ErrorFields(found.get(0x56) or found.get(0x53, ""), found.get(0x43, ""), found.get(0x4D, ""))


def parse_authentication(body: bytes) -> tuple[int, bytes]:
    if len(body) < 4:
        raise ProtocolViolation("invalid authentication request")
    return int.from_bytes(body[:4]), body[4:]


def parse_sasl_mechanisms(data: bytes) -> list[bytes]:
    if not data.endswith(b"\0\0") and data != b"\0":
        raise ProtocolViolation("invalid list of SASL mechanisms")
    return data[:-2].split(b"\0") if data != b"\0" else []


def parse_parameter_status(body: bytes) -> tuple[bytes, bytes]:
    parts = body.split(b"\0")
    if len(parts) != 3 or parts[2] or not parts[0]:
        raise ProtocolViolation("invalid parameter status")
    return parts[0], parts[1]


def parse_backend_key_data(body: bytes) -> tuple[int, bytes]:
    if not 8 <= len(body) <= 4 + MAX_CANCEL_KEY:
        raise ProtocolViolation("invalid cancel key")
    return int.from_bytes(body[:4]), body[4:]


def parse_negotiate_protocol_version(body: bytes) -> tuple[int, list[bytes]]:
    """(newest version the server has, options it does not know)."""
    if len(body) < 8:
        raise ProtocolViolation("invalid protocol negotiation")
    version, count = _U32X2.unpack_from(body)
    names = body[8:].split(b"\0")
    if names.pop() or len(names) != count:
        raise ProtocolViolation("invalid protocol negotiation")
    return version, names


def parse_data_row(body: bytes) -> list[bytes | None]:
    if len(body) < 2:
        raise ProtocolViolation("invalid data row")
    values: list[bytes | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2])):
        head = body[at : at + 4]
        at += 4
        if len(head) < 4:
            raise ProtocolViolation("invalid data row")
        if head == b"\xff\xff\xff\xff":
            values.append(None)
            continue
        size = int.from_bytes(head)
        if size > len(body) - at:
            raise ProtocolViolation("invalid data row")
        values.append(body[at : at + size])
        at += size
    if at != len(body):
        raise ProtocolViolation("invalid data row")
    return values
