"""The snapshot: everything a worker needs to know, frozen and versioned.

The controller builds it from the configuration and the secrets and publishes it; workers only read it. Slots are the
places of an endpoint or a target in the shared-memory tables: they stay the same for as long as the thing exists,
over reloads and restarts of the controller. Secrets never appear in a repr.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class EngineFamily(StrEnum):
    POSTGRESQL = "POSTGRESQL"
    MYSQL = "MYSQL"


class TargetRole(StrEnum):
    READ_WRITE = "READ_WRITE"
    READ_ONLY = "READ_ONLY"


class ClientPasswordAuthType(StrEnum):
    POSTGRES_SCRAM_SHA_256 = "POSTGRES_SCRAM_SHA_256"
    POSTGRES_MD5 = "POSTGRES_MD5"
    MYSQL_NATIVE_PASSWORD = "MYSQL_NATIVE_PASSWORD"
    MYSQL_CACHING_SHA2_PASSWORD = "MYSQL_CACHING_SHA2_PASSWORD"


class IamAuth(StrEnum):
    DISABLED = "DISABLED"
    REQUIRED = "REQUIRED"
    ENABLED = "ENABLED"


class ClientTlsMode(StrEnum):
    """What the proxy asks of its clients."""

    OFF = "off"  # SSLRequest is answered with N
    ALLOW = "allow"
    REQUIRE = "require"  # the same as require_tls = true


class SslMode(StrEnum):
    """libpq's six modes, towards the database (PostgreSQL manual, 34.19.1)."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class ClientCertificates(StrEnum):
    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret, fetched: one database user."""

    username: str
    password: str = field(repr=False)
    client_password_auth_type: ClientPasswordAuthType
    iam_auth: IamAuth = IamAuth.DISABLED
    source: str = ""  # the reference it came from (file:…, env:…, arn:…), for messages


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS towards clients. Paths, not contents: keys are read by the worker, and again on reload."""

    mode: ClientTlsMode = ClientTlsMode.OFF
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    client_certificates: ClientCertificates = ClientCertificates.NONE
    minimum_version: str = "1.2"
    # digest of the files' contents, so that a reload with a renewed certificate is a change
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS towards the database."""

    sslmode: SslMode = SslMode.PREFER
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    sslnegotiation: str = "postgres"  # or "direct"
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One database server."""

    slot: int  # place in the shared-memory target table
    host: str  # name, IPv4, IPv6, or the directory of a Unix socket (begins with "/")
    port: int
    role: TargetRole


@dataclass(frozen=True, slots=True)
class TargetGroup:
    targets: tuple[Target, ...]
    tls: ServerTls = ServerTls()
    max_connections_percent: int = 100
    max_idle_connections_percent: int = 50
    max_connections: int | None = None  # absolute ceiling beside the percentage, both apply
    connection_borrow_timeout: float = 120.0  # seconds
    init_query: str = ""
    session_pinning_filters: tuple[str, ...] = ()
    pin_policy: tuple[tuple[str, str], ...] = ()  # reason, "ignore" or "refuse"; those that pin are not here
    pin_audit_after: float = 5.0  # seconds; 0: never
    max_prepared_statements: int = 256  # on one server connection
    connect_timeout: float = 15.0  # seconds, dial + TLS + login
    server_idle_timeout: float = 300.0  # seconds: what "idle" means for max_idle_connections_percent
    server_life: float = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Endpoint:
    slot: int  # place in the shared-memory endpoint table
    name: str
    target_role: TargetRole
    host: str  # listening address, or "/path/.s.PGSQL.5432" for a Unix socket (then port is 0)
    port: int


@dataclass(frozen=True, slots=True)
class Proxy:
    name: str
    engine_family: EngineFamily
    endpoints: tuple[Endpoint, ...]
    target_group: TargetGroup
    credentials: tuple[Credential, ...]
    tls: ClientTls = ClientTls()
    idle_client_timeout: float = 1800.0
    client_life: float = 86400.0
    debug_logging: bool = False
    login_timeout: float = 15.0
    max_half_open_logins: int = 1000  # per worker
    max_client_connections: int = 10000  # over all workers


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: int
    proxies: tuple[Proxy, ...]
    drain_timeout: float = 30.0  # seconds, graceful shutdown and drain
