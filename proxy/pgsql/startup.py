"""What a client says before it authenticates: encryption requests, a cancel request, or the startup packet.

    client                                     we
    0x16 … (direct TLS, ALPN "postgresql")     handshake                      only as the very first byte
    SSLRequest                                 S + handshake, or N            at most once
    GSSENCRequest                              N                              at most once, before or after SSLRequest
    CancelRequest                              (nothing; the end)
    StartupMessage                             NegotiateProtocolVersion, if it asks for what we do not have

Everything here is unauthenticated: lengths are checked before anything is read, 10,000 bytes are the most, and bytes
behind an encryption request (before our answer) end the connection, because a man in the middle could have put them
there.
"""

from dataclasses import dataclass

from proxy.errors import (
    InvalidParameterValue,
    ProtocolViolation,
    ReplicationUnsupported,
    TlsRequired,
    UnrecognizedParameter,
    UnsupportedProtocol,
    UserNameMissing,
)
from proxy.exchange import CancelRequest, Exchange, Hangup, StartTls
from proxy.model import ClientTlsMode
from proxy.pgsql import options
from proxy.pgsql.exchange import MAX_STARTUP_PACKET, Line
from proxy.pgsql.messages import (
    CANCEL_REQUEST_CODE,
    GSSENC_REQUEST_CODE,
    MAX_CANCEL_KEY,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST_CODE,
    negotiate_protocol_version,
)

_TLS_HANDSHAKE = 0x16  # content type of a ClientHello's record; as the head of a length it would be far above the limit
# keys of the packet that are not settings; a setting of such a name must never reach a server's startup packet
_RESERVED = frozenset({"", "user", "database", "options", "replication"})


@dataclass(frozen=True, slots=True)
class Startup:
    """What the client wants to be. Text is UTF-8 where it can be, other bytes survive as surrogates."""

    user: str
    database: str
    settings: tuple[tuple[str, str], ...]  # sorted; names in lower case; `options` are merged in
    minor: int  # of protocol 3 as agreed on: 0 or 2
    prelude: bytes  # goes out before our first authentication message

    @property
    def application(self) -> str:
        return next((value for name, value in self.settings if name == "application_name"), "")


def startup(line: Line, tls: ClientTlsMode, *, local: bool = False) -> Exchange[Startup | CancelRequest]:
    """`local`: a Unix socket, whose bytes never leave the kernel; TLS is neither offered there nor required."""
    offer = tls is not ClientTlsMode.OFF and not local
    ssl_seen = gss_seen = False
    answer = b""
    while True:
        if not line.data:
            line.feed((yield answer))
            answer = b""
        if line.data[0] == _TLS_HANDSHAKE and not ssl_seen and not gss_seen:
            if not offer:
                raise Hangup
            ssl_seen = gss_seen = True
            yield StartTls(b"", direct=True)
            if line.alpn != "postgresql":
                raise ProtocolViolation(
                    "received direct SSL connection request without ALPN protocol negotiation extension"
                )
            continue
        while len(line.data) < 4:
            line.feed((yield answer))
            answer = b""
        length = int.from_bytes(line.data[:4])
        if not 8 <= length <= MAX_STARTUP_PACKET:
            raise ProtocolViolation("invalid length of startup packet")
        while len(line.data) < length:
            line.feed((yield answer))
            answer = b""
        packet, line.data = line.data[:length], line.data[length:]
        code = int.from_bytes(packet[4:8])
        if code == CANCEL_REQUEST_CODE:
            if not 13 <= length <= 12 + MAX_CANCEL_KEY:
                raise ProtocolViolation("invalid length of query cancel packet")
            return CancelRequest(int.from_bytes(packet[8:12]), packet[12:])
        if code == SSL_REQUEST_CODE and not ssl_seen and length == 8:
            ssl_seen = True
            if line.data:
                raise _injected("SSL request")
            if offer and not line.encrypted:
                yield StartTls(b"S")
                gss_seen = True  # encryption inside encryption is not a thing
            else:
                answer = b"N"
            continue
        if code == GSSENC_REQUEST_CODE and not gss_seen and length == 8:
            gss_seen = True
            if line.data:
                raise _injected("GSSAPI encryption request")
            answer = b"N"
            continue
        if code >> 16 != 3:
            raise UnsupportedProtocol
        if tls is ClientTlsMode.REQUIRE and not line.encrypted and not local:
            raise TlsRequired
        return _parse(packet, code)


def _injected(what: str) -> ProtocolViolation:
    error = ProtocolViolation(f"received unencrypted data after {what}")
    error.detail = "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."
    return error


def _parse(packet: bytes, version: int) -> Startup:
    # name\0value\0 … \0: with the terminator that is an odd number of strings, and an empty one behind the last NUL
    fields = packet[8:].split(b"\0")
    pairs = len(fields) // 2 - 1
    if len(fields) < 2 or len(fields) % 2 or fields[-1] or fields[-2] or not all(fields[: 2 * pairs : 2]):
        raise ProtocolViolation("invalid startup packet layout: expected terminator as last byte")
    text = [item.decode("utf-8", "surrogateescape") for item in fields[:-2]]
    user = database = command_line = ""
    given: list[tuple[str, str]] = []
    unknown: list[bytes] = []
    for at in range(0, len(text), 2):
        name, value = text[at], text[at + 1]
        if name == "user":
            user = value
        elif name == "database":
            database = value
        elif name == "options":
            command_line = value
        elif name == "replication":
            _check_replication(value)
        elif name.startswith("_pq_."):
            unknown.append(fields[at])
        else:
            given.append((name, value))
    minor = version & 0xFFFF
    agreed = PROTOCOL_3_2 if minor >= 2 else PROTOCOL_3_0  # 3.1 never existed
    prelude = negotiate_protocol_version(agreed, unknown) if unknown or minor > 2 else b""
    if not user:
        raise UserNameMissing
    settings: dict[str, str] = {}
    # as in PostgreSQL: the command line first, so that a parameter of its own overrules it
    for name, value in (options.parse(command_line) + given) if command_line else given:
        folded = name.lower()
        if folded in _RESERVED or folded.startswith("_pq_."):
            raise UnrecognizedParameter(name)
        settings[folded] = value
    return Startup(user, database or user, tuple(sorted(settings.items())), agreed & 0xFFFF, prelude)


def _check_replication(value: str) -> None:
    """`database` or a true boolean asks for a walsender; a false one for an ordinary session. Spelled as parse_bool()
    has it.
    """
    word = value.lower()
    if word == "0" or (word and ("false".startswith(word) or "no".startswith(word))) or word in ("of", "off"):
        return
    if value == "database" or word in ("1", "on") or (word and ("true".startswith(word) or "yes".startswith(word))):
        raise ReplicationUnsupported
    raise InvalidParameterValue("replication", value)
