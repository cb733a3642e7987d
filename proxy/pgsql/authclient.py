"""We as the client: logs in to a database and brings the connection to its first quiet ReadyForQuery. A generator.

    we                                         server
    SSLRequest, or TLS at once                 S + handshake, or N
    StartupMessage                             NegotiateProtocolVersion, NoticeResponse … at any time
    password or SCRAM                          AuthenticationOk, ParameterStatus …, BackendKeyData, ReadyForQuery
    init_query                                 … ReadyForQuery
    limits, if asked for                       … ReadyForQuery

Authentication: trust, clear text, MD5, SCRAM-SHA-256(-PLUS). A clear-text password is given to whoever asks, as libpq
gives it; who does not want that demands `sslmode=verify-full`, which proves who asks. A refusal is `ServerRefused`,
and says whether it can be expected to last. Anything else a server may do wrong is a `ProtocolViolation` or a
`ScramError`: temporary.
"""

from dataclasses import dataclass, field

from proxy.errors import ProtocolViolation
from proxy.exchange import Encryption, Exchange, StartTls, TlsRefused, UnsupportedMethod
from proxy.pgsql.exchange import Line
from proxy.pgsql.md5 import md5_response
from proxy.pgsql.messages import (
    PROTOCOL_3_0,
    SSL_REQUEST,
    Auth,
    ErrorFields,
    cancel_request,
    message,
    parse_authentication,
    parse_backend_key_data,
    parse_data_row,
    parse_error,
    parse_negotiate_protocol_version,
    parse_parameter_status,
    parse_sasl_mechanisms,
    password_message,
    query,
    sasl_initial_response,
    sasl_response,
    startup_message,
)
from proxy.pgsql.scram import ScramClient

MAX_LOGIN_MESSAGE = 65_536  # bytes; libpq bounds these at 30,000
MAX_INIT_MESSAGE = 1 << 20  # one row of an init_query's result
MAX_LOGIN_MESSAGES = 10_000  # a server that never gets ready is not one

LIMITS_QUERY = (
    b"select current_setting('max_connections'), current_setting('superuser_reserved_connections'), "
    b"current_setting('reserved_connections', true)"
)

# A retry with the same secret, name and settings gets the same answer. Whole classes, then single codes; all else is
# temporary.
_PERMANENT_CLASSES = ("28", "0A", "22", "42")
# no such database, a database that takes no connections, a setting that only a restart changes
_PERMANENT = frozenset({"3D000", "55000", "55P02"})


class ServerRefused(Exception):
    """The database's own ErrorResponse. `error` is the whole message as it came, for clients to be told."""

    def __init__(self, fields: ErrorFields, error: bytes, *, permanent: bool) -> None:
        super().__init__(str(fields))
        self.fields = fields
        self.error = error
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class ServerReady:
    """A server connection fit for use, as its own messages describe it."""

    parameters: bytes  # its ParameterStatus messages as they came, sorted by name
    backend_pid: int
    cancel_key: bytes = field(repr=False)
    notices: tuple[str, ...]
    limits: tuple[int, int] | None  # (max_connections, of which reserved)


def permanent(sqlstate: str) -> bool:
    return sqlstate[:2] in _PERMANENT_CLASSES or sqlstate in _PERMANENT


class _Login:
    """What accumulates between the first byte and the last."""

    __slots__ = ("backend_pid", "cancel_key", "line", "notices", "seen", "status")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.status: dict[bytes, tuple[bytes, bytes]] = {}  # name: (value, whole message)
        self.backend_pid = 0
        self.cancel_key = b""
        self.notices: list[str] = []
        self.seen = 0

    def next(self, limit: int) -> Exchange[tuple[int, bytes]]:
        """The next message that is not asynchronous. Notices may come at any time, even before authentication."""
        while True:
            while (found := self.line.message(limit)) is None:
                self.line.feed((yield self.line.flush()))
            kind, body = found
            self.seen += 1
            if self.seen > MAX_LOGIN_MESSAGES:
                raise ProtocolViolation("the server sends and sends but does not get ready")
            match chr(kind):
                case "N":
                    if len(self.notices) < 100:
                        self.notices.append(str(parse_error(body)))
                case "S":
                    name, value = parse_parameter_status(body)
                    self.status[name] = (value, message(kind, body))
                case "A":
                    pass  # NotificationResponse: an init_query may LISTEN; nobody is there to hear it yet
                case "E":
                    fields = parse_error(body)
                    raise ServerRefused(fields, message(kind, body), permanent=permanent(fields.sqlstate))
                case _:
                    return kind, body


def log_in(
    line: Line,
    *,
    user: str,
    database: str,
    password: str,
    settings: tuple[tuple[str, str], ...] = (),
    encryption: Encryption = Encryption.NONE,
    init_query: str = "",
    ask_limits: bool = False,
    protocol: int = PROTOCOL_3_0,
) -> Exchange[ServerReady]:
    yield from _encrypt(line, encryption)
    login = _Login(line)
    line.pending += startup_message((("user", user), ("database", database), *settings), protocol)
    yield from _authenticate(login, user, password, protocol)
    yield from _until_ready(login)
    if init_query:
        try:
            yield from _run(login, init_query.encode())
        except ServerRefused as refused:
            # somebody else's mistake or a passing state of the database: no reason to tell clients theirs is wrong
            refused.permanent = False
            raise
    limits = _limits((yield from _run(login, LIMITS_QUERY))) if ask_limits else None
    if line.data or line.pending:
        # or has answered what it was not asked yet: our question would never leave
        raise ProtocolViolation("the server goes on talking after ReadyForQuery")
    status = login.status
    return ServerReady(
        parameters=b"".join(status[name][1] for name in sorted(status)),
        backend_pid=login.backend_pid,
        cancel_key=login.cancel_key,
        notices=tuple(login.notices),
        limits=limits,
    )


def cancel(line: Line, pid: int, key: bytes, encryption: Encryption) -> Exchange[None]:
    """Delivered when the server has closed, which ends as PeerClosed: it signals before it does (manual, 54.2.8)."""
    yield from _encrypt(line, encryption)
    said = cancel_request(pid, key)
    while True:
        line.feed((yield said))
        said = b""


def _encrypt(line: Line, encryption: Encryption) -> Exchange[None]:
    if encryption is Encryption.NONE:
        return
    if encryption is Encryption.DIRECT:
        yield StartTls(b"", direct=True)
        if line.alpn != "postgresql":
            raise ProtocolViolation("direct TLS without ALPN: this is not a PostgreSQL server")
        return
    line.feed((yield SSL_REQUEST))
    answer = line.take()
    if answer == b"S":
        yield StartTls(b"")
    elif answer != b"N":
        # more than one byte may have been put there by a man in the middle; an ErrorResponse is authenticated by
        # nothing, so its text is not shown (CVE-2024-10977)
        raise ProtocolViolation("unexpected answer to the SSL request")
    elif encryption is Encryption.DEMAND:
        raise TlsRefused("server does not support SSL, but SSL was required")


def _authenticate(login: _Login, user: str, password: str, protocol: int) -> Exchange[None]:
    line = login.line
    scram: ScramClient | None = None
    verified = False
    while True:
        kind, body = yield from login.next(MAX_LOGIN_MESSAGE)
        if kind == 0x76:  # v: NegotiateProtocolVersion
            version, unknown = parse_negotiate_protocol_version(body)
            if not PROTOCOL_3_0 <= version <= protocol or unknown:
                raise ProtocolViolation("the server negotiates a protocol version that was not offered")
            continue
        if kind != 0x52:  # R
            raise ProtocolViolation(f"unexpected message type {kind} during authentication")
        code, data = parse_authentication(body)
        match code:
            case Auth.OK:
                if scram is not None and not verified:
                    raise ProtocolViolation("the server skipped its own SCRAM signature")
                return
            case Auth.CLEARTEXT_PASSWORD:
                line.pending += password_message(password.encode("utf-8", "surrogateescape"))
            case Auth.MD5_PASSWORD:
                if len(data) != 4:
                    raise ProtocolViolation("invalid MD5 salt")
                line.pending += password_message(md5_response(user, password, data))
            case Auth.SASL if scram is None:
                scram = ScramClient(password, parse_sasl_mechanisms(data), line.binding)
                line.pending += sasl_initial_response(scram.mechanism, scram.first())
            case Auth.SASL_CONTINUE if scram is not None and not verified:
                line.pending += sasl_response(scram.final(data))
            case Auth.SASL_FINAL if scram is not None:
                scram.verify(data)
                verified = True
            case Auth.KERBEROS_V5 | Auth.GSS | Auth.GSS_CONTINUE | Auth.SSPI:
                raise UnsupportedMethod(
                    f"authentication method {Auth(code).name} requested by the server is not supported"
                )
            case _:
                raise ProtocolViolation(f"unexpected authentication request {code}")


def _until_ready(login: _Login) -> Exchange[None]:
    while True:
        kind, body = yield from login.next(MAX_LOGIN_MESSAGE)
        match chr(kind):
            case "K":
                login.backend_pid, login.cancel_key = parse_backend_key_data(body)
            case "Z" if body == b"I":
                return
            case _:
                raise ProtocolViolation(f"unexpected message type {kind} before ReadyForQuery")


def _run(login: _Login, text: bytes) -> Exchange[list[bytes | None]]:
    """One simple Query, of one or several statements; the last row of the last result."""
    login.line.pending += query(text)
    row: list[bytes | None] = []
    while True:
        kind, body = yield from login.next(MAX_INIT_MESSAGE)
        match chr(kind):
            case "D":
                row = parse_data_row(body)
            case "T" | "C" | "I":
                pass
            case "Z" if body == b"I":
                return row
            case "Z":
                raise ProtocolViolation("init_query leaves a transaction open")
            case _:
                raise ProtocolViolation(f"unexpected message type {kind} in answer to init_query")


def _limits(row: list[bytes | None]) -> tuple[int, int]:
    numbers = [int(value) if value is not None and value.isdigit() else 0 for value in row]
    if len(numbers) != 3 or numbers[0] < 1:
        raise ProtocolViolation("unexpected answer to the question for max_connections")
    return numbers[0], numbers[1] + numbers[2]
