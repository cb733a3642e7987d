"""PostgreSQL's entry in the table of engine families: the front thread's side."""

from collections.abc import Generator

from proxy.dataplane.family import Admitted, Failure, Settings, Visit, Welcome, register
from proxy.engines.pgsql import beginning
from proxy.engines.pgsql.beginning import Trial
from proxy.errors import (
    AdminShutdown,
    BorrowTimeout,
    ClientLifeReached,
    DatabaseError,
    Draining,
    EndpointRemoved,
    IdleClientTimeout,
    KilledByOperator,
    PinRefused,
    ProtocolViolation,
    ProxyError,
    QueryCanceled,
    ServerLost,
    SessionStateLost,
)
from proxy.exchange import CancelRequest, Encryption, Exchange, StartTls, TlsRefused, UnsupportedMethod
from proxy.model import EngineFamily
from proxy.net._tls import TlsError
from proxy.pgsql import authclient
from proxy.pgsql.authclient import ServerReady, ServerRefused
from proxy.pgsql.authserver import authenticate
from proxy.pgsql.exchange import Line
from proxy.pgsql.messages import (
    AUTHENTICATION_OK,
    READY_FOR_QUERY_IDLE,
    backend_key_data,
    error_fields,
    error_response,
    message,
    parameter_status,
    parse_error,
)
from proxy.pgsql.scram import ScramError
from proxy.pgsql.startup import startup
from proxy.reasons import CloseReason, PinReason
from proxy.reasons import name as name_of

# As the server has it, to the function's name, by which drivers know that they must prepare again. In the table of
# refusals it stands where no pin is the reason.
STALE_PLAN = message(
    0x45,
    error_fields(
        [
            ("S", "ERROR"),
            ("V", "ERROR"),
            ("C", "0A000"),
            ("M", "cached plan must not change result type"),
            ("F", "plancache.c"),
            ("R", "RevalidateCachedQuery"),
        ]
    ),
)


class PostgreSql:
    engine_family = EngineFamily.POSTGRESQL
    number = 0
    alpn: tuple[str, ...] = ("postgresql",)
    failures: tuple[type[Exception], ...] = (ScramError, ServerRefused)

    def line(self) -> Line:
        return Line()

    # ------------------------------------------------------------ clients

    def talk(self, visit: Visit) -> Generator[bytes | StartTls, bytes, Admitted | CancelRequest]:
        line: Line = visit.line
        asked = yield from startup(line, visit.tls_mode, local=visit.local)
        if isinstance(asked, CancelRequest):
            return asked
        credential = visit.expected(asked.user)
        line.pending = asked.prelude
        last_words = yield from authenticate(line, credential, asked.user)
        settings, own = beginning.split(asked.settings)
        key_size = 32 if asked.minor >= 2 else 4
        return Admitted(asked.user, asked.database, asked.application, settings, own, last_words, key_size)

    def greet(self, line: Line, admitted: Admitted, welcome: Welcome, pid: int, key: bytes) -> bytes:
        return admitted.last_words + welcome.head + backend_key_data(pid, key) + READY_FOR_QUERY_IDLE

    def error(self, line: Line | None, error: ProxyError) -> bytes:
        return error_response(error)

    def relayed(self, line: Line | None, error: bytes) -> bytes:
        return error

    def words(self) -> tuple[dict[CloseReason, bytes], dict[PinReason, bytes]]:
        told = {
            CloseReason.CLIENT_PROTOCOL_VIOLATION: ProtocolViolation("invalid frontend message"),
            CloseReason.CLIENT_IDLE_TIMEOUT: IdleClientTimeout(),
            CloseReason.CLIENT_LIFE_REACHED: ClientLifeReached(),
            CloseReason.BORROW_TIMEOUT: BorrowTimeout(),
            CloseReason.CLIENT_DRAINED: Draining(),
            CloseReason.CLIENT_SHUTDOWN: AdminShutdown(),
            CloseReason.CLIENT_KILLED: KilledByOperator(),
            CloseReason.SERVER_LOST: ServerLost(),
            CloseReason.ENDPOINT_REMOVED: EndpointRemoved(),
            CloseReason.CLIENT_STATE_LOST: SessionStateLost(),
            CloseReason.CLOSE_NONE: QueryCanceled(),
        }
        errors = {reason: error_response(error) for reason, error in told.items()}
        refusals = {reason: error_response(PinRefused(name_of(reason))) for reason in PinReason}
        return errors, refusals | {PinReason.PIN_NONE: STALE_PLAN}

    # ------------------------------------------------------------ settings

    def welcome(self, ready: ServerReady, init_query: str) -> Welcome:
        initial, _ = beginning.of_init_query(init_query, ready.parameters)
        settings = b"".join(parameter_status(name, value) for name, value in sorted(initial.items()))
        return Welcome(AUTHENTICATION_OK + ready.parameters, ready.parameters, settings)

    def opaque(self, init_query: str) -> bool:
        return not beginning.of_init_query(init_query, b"")[1]

    def known(self, base: Welcome, own: Settings) -> Welcome | None:
        return beginning.known(base, own)

    def trial(self, base: Welcome, own: Settings) -> Trial:
        return Trial(base, own)

    # ------------------------------------------------------------ servers

    def log_in(
        self,
        line: Line,
        *,
        user: str,
        database: str,
        password: str,
        settings: Settings,
        encryption: Encryption,
        init_query: str,
        ask_limits: bool,
    ) -> Exchange[ServerReady]:
        return authclient.log_in(
            line,
            user=user,
            database=database,
            password=password,
            settings=settings,
            encryption=encryption,
            init_query=init_query,
            ask_limits=ask_limits,
        )

    def cancel(
        self, line: Line, *, user: str, password: str, pid: int, key: bytes, encryption: Encryption
    ) -> Exchange[None]:
        return authclient.cancel(line, pid, key, encryption)

    def judge(self, failure: Exception) -> Failure:
        if isinstance(failure, ServerRefused) and failure.permanent:
            # who misses a database creates it and comes again at once
            return Failure(True, failure.error, failure.fields.sqlstate != "3D000")
        if isinstance(failure, (TlsRefused, UnsupportedMethod)):
            return Failure(True, error_response(DatabaseError(str(failure))), True)
        return Failure(False, b"", False)

    def other_encryption(self, failure: Exception, tried: Encryption, encrypted: bool) -> bool:
        """Where only the host-based rules or TLS itself can have been the cause."""
        if isinstance(failure, ServerRefused):
            return failure.fields.sqlstate == "28000" and (encrypted or tried is Encryption.NONE)
        return isinstance(failure, TlsError)

    def unix_socket(self, folder: str, port: int) -> str:
        return f"{folder}/.s.PGSQL.{port}"

    def said(self, error: bytes) -> str:
        return str(parse_error(error[5:]))


register(PostgreSql())
