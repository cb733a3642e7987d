"""What the front thread asks of an engine family: how its clients log in, how its servers are logged in to.

The compiled side, for connections in the relay's hands, is the table in `_state.pxd`. A family registers itself when
its package is imported; nothing here names one.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from proxy.errors import ProxyError
from proxy.exchange import CancelRequest, Encryption, Exchange, StartTls, Stream
from proxy.model import ClientTlsMode, Credential, EngineFamily, Proxy
from proxy.reasons import CloseReason, PinReason

Settings: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that has proven who it is, and what it wants of its session."""

    user: str
    database: str
    application: str
    settings: Settings  # those with which its servers must log in: part of the pool's key
    own: Settings  # those that any server of the pool can be given
    last_words: bytes  # of the authentication: sent in front of what follows
    key_size: int  # of its cancel key, in bytes
    details: Any = None  # the family's own


@dataclass(frozen=True, slots=True)
class Welcome:
    """What a client is told of its session, and what it begins with; all in the family's own form."""

    head: bytes
    parameters: bytes
    settings: bytes = b""  # beyond the server's login


class Ready(Protocol):
    """A server connection fit for use."""

    @property
    def parameters(self) -> bytes:
        """What it says of its session, in the family's own form."""

    @property
    def backend_pid(self) -> int: ...
    @property
    def cancel_key(self) -> bytes: ...
    @property
    def notices(self) -> tuple[str, ...]: ...
    @property
    def limits(self) -> tuple[int, int] | None:
        """(max_connections, of which reserved), if that was asked for."""


class Visit(Protocol):
    """What a login conversation may ask."""

    @property
    def line(self) -> Any: ...
    @property
    def tls_mode(self) -> ClientTlsMode: ...
    @property
    def local(self) -> bool:
        """Over a Unix socket."""

    def pid(self) -> int:
        """The number by which the client will be known; 0: there is none left."""

    def expected(self, user: str) -> Credential:
        """Of the user that it says it is, once it may come in at all; a ProxyError if not."""


class Failure(NamedTuple):
    """What has become of an attempt to log in to a server."""

    permanent: bool  # the same attempt would fail again
    error: bytes  # a whole message for the clients who wait, if it is
    stands: bool  # … and for those who come in the next moment


class Trial(Protocol):
    """A conversation with a server through the relay: what a client's own settings amount to."""

    request: bytes

    def feed(self, data: bytes) -> Welcome | bytes | None:
        """The answer, or the refusal as a whole message, once it is there."""


class Family(Protocol):
    engine_family: EngineFamily
    number: int  # Engine.number
    alpn: tuple[str, ...]  # towards servers

    def line(self) -> Stream: ...

    # clients
    def talk(self, visit: Visit) -> Generator[bytes | StartTls, bytes, Admitted | CancelRequest]: ...
    def greet(self, line: Any, admitted: Admitted, welcome: Welcome, pid: int, key: bytes) -> bytes:
        """All that stands between authentication and the first request."""

    def error(self, line: Any, error: ProxyError) -> bytes:
        """The last thing a client is told during its login. `line` is None where nothing has been said yet."""

    def relayed(self, line: Any, error: bytes) -> bytes:
        """The same, in the words of a database."""

    def words(self) -> tuple[dict[CloseReason, bytes], dict[PinReason, bytes]]:
        """What the relay says to a client, by reason; a reason that is missing tells nothing. CLOSE_NONE: a canceled
        request. And, by what would have pinned, what pin_policy refuses.
        """

    # settings
    def welcome(self, ready: Any, init_query: str) -> Welcome: ...
    def opaque(self, init_query: str) -> bool:
        """What it sets is not known, so a reset of the session leaves a server unlike the others."""

    def known(self, base: Welcome, own: Settings) -> Welcome | None:
        """What a client with these settings is told, where that is certain."""

    def trial(self, base: Welcome, own: Settings) -> Trial: ...

    # servers
    failures: tuple[type[Exception], ...]  # of a login, beside those of the network and of TLS

    def log_in(
        self,
        line: Any,
        *,
        user: str,
        database: str,
        password: str,
        settings: Settings,
        encryption: Encryption,
        init_query: str,
        ask_limits: bool,
    ) -> Exchange[Any]: ...
    def cancel(
        self, line: Any, *, user: str, password: str, pid: int, key: bytes, encryption: Encryption
    ) -> Exchange[None]:
        """On a connection of its own; delivered when it ends or the server closes."""

    def judge(self, failure: Exception) -> Failure: ...
    def other_encryption(self, failure: Exception, tried: Encryption, encrypted: bool) -> bool:
        """Is the next attempt of `allow` or `prefer` justified?"""

    def unix_socket(self, folder: str, port: int) -> str:
        """Where a server listens whose host is a folder."""

    def said(self, error: bytes) -> str:
        """A database's whole message, in words."""


_FAMILIES: dict[EngineFamily, Family] = {}


def register(family: Family) -> None:
    _FAMILIES[family.engine_family] = family


def families() -> list[Family]:
    return list(_FAMILIES.values())


def family_of(proxy: Proxy) -> Family:
    """A ValueError in words if it is not served."""
    found = _FAMILIES.get(proxy.engine_family)
    if found is None:
        raise ValueError(f"proxy {proxy.name}: engine_family {proxy.engine_family} is not served by this version")
    return found
