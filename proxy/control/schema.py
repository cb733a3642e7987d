"""The configuration file as pydantic models, one per table: every key, its type, range, default and RDS Proxy's name.

This is the one place where a key exists: parsing, error messages and the reference manual (`control/reference`) all
read it. A model knows single values; what several keys mean together is `control/checks`. Nothing here opens a file.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proxy.control import addresses
from proxy.model import (
    ClientCertificates,
    ClientPasswordAuthType,
    ClientTlsMode,
    EngineFamily,
    IamAuth,
    SslMode,
    TargetRole,
)

MAX_ENDPOINTS = 128  # places in shared memory, over all proxies
MAX_TARGETS = 64
MAX_WORKERS = 127  # a worker's number has seven bits in the cancel keys of clients
MAX_SECRETS = 200  # per proxy, as in RDS Proxy
MAX_EXTRA_ENDPOINTS = 20  # beside the one named "default"

_DAY = 86_400
_MONTH = 30 * _DAY


def key(
    default: Any = ...,
    about: str = "",
    *,
    rds: str = "",
    unit: str = "",
    example: Any = None,
    default_text: str = "",
    **limits: Any,
) -> Any:
    """A field of a table. `example` also stands in for a value that is wrong, so that the other checks can go on."""
    extra: dict[str, Any] = {"rds": rds, "unit": unit, "default_text": default_text}
    return Field(default, description=about, examples=[example], json_schema_extra=extra, **limits)


class Section(BaseModel):
    # strict: "90" is not 90, and 1 is not true. Inputs are hidden so that no message of pydantic's can carry a secret.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _an_address(text: str) -> str:
    addresses.parse(text)
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _a_reference(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind not in {"file", "env", "arn"} or not rest:
        raise ValueError('write "file:PATH" or "env:NAME"; the secret itself does not belong in this file')
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z](?:-?[a-zA-Z0-9]+)*$")]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_no_nul)]
Text = Annotated[str, AfterValidator(_no_nul)]
AddressText = Annotated[str, AfterValidator(_an_address)]
Reference = Annotated[str, Field(max_length=2048), AfterValidator(_a_reference)]
# enums are the one thing TOML cannot write, so strictness stops at their strings
Family = Annotated[EngineFamily, Field(strict=False)]
Role = Annotated[TargetRole, Field(strict=False)]
AuthType = Annotated[ClientPasswordAuthType, Field(strict=False)]
Iam = Annotated[IamAuth, Field(strict=False)]
TlsMode = Annotated[ClientTlsMode, Field(strict=False)]
Certificates = Annotated[ClientCertificates, Field(strict=False)]
ServerSslMode = Annotated[SslMode, Field(strict=False)]


class ServerSection(Section):
    workers: int | None = key(
        None, "Worker processes that carry the traffic.", ge=1, le=MAX_WORKERS, default_text="one per CPU", example=2
    )
    run_dir: FilePath | None = key(
        None,
        "Directory of the control socket. A relative path starts at the configuration file.",
        default_text="`/run/sluiceway` for root, else `$XDG_RUNTIME_DIR/sluiceway`",
        example="/run/sluiceway",
    )
    metrics_listen: AddressText | None = key(
        None,
        "Address of `/metrics`, `/healthz` and `/readyz` over HTTP.",
        default_text="not served",
        example="127.0.0.1:9187",
    )
    drain_timeout: float = key(
        30.0,
        "How long a graceful stop or a drain waits for transactions to end.",
        ge=0,
        le=_DAY,
        unit="seconds",
        example=30,
    )


class TlsSection(Section):
    mode: TlsMode | None = key(
        None,
        "Whether clients may use TLS: refused, allowed or required (the same as `require_tls`).",
        default_text='"require" with `require_tls`, else "allow" with a certificate, else "off"',
        example="allow",
    )
    cert_file: FilePath | None = key(None, "Certificate shown to clients, PEM, with its chain.", example="server.crt")
    key_file: FilePath | None = key(None, "Private key of `cert_file`, PEM, not encrypted.", example="server.key")
    client_ca_file: FilePath | None = key(
        None, "Authorities whose client certificates are accepted, PEM.", example="clients-ca.crt"
    )
    client_certificates: Certificates = key(
        ClientCertificates.NONE, "Whether clients are asked for a certificate.", example="none"
    )
    minimum_version: Literal["1.2", "1.3"] = key("1.2", "Oldest TLS version accepted from clients.", example="1.2")


class AuthSection(Section):
    secret: Reference = key(
        about="Where the user name and the password are: `file:PATH` or `env:NAME`, holding"
        ' `{"username": "…", "password": "…"}`.',
        rds="SecretArn",
        example="file:app.json",
    )
    auth_scheme: Literal["SECRETS"] = key(
        "SECRETS", "How the proxy logs in to the database.", rds="AuthScheme", example="SECRETS"
    )
    client_password_auth_type: AuthType | None = key(
        None,
        "How clients prove their password to the proxy.",
        rds="ClientPasswordAuthType",
        default_text='"POSTGRES_SCRAM_SHA_256" for POSTGRESQL, "MYSQL_CACHING_SHA2_PASSWORD" for MYSQL',
        example="POSTGRES_SCRAM_SHA_256",
    )
    iam_auth: Iam = key(
        IamAuth.DISABLED, "Whether clients of this user log in by IAM token.", rds="IAMAuth", example="DISABLED"
    )
    username: Annotated[Text, Field(min_length=1, max_length=128)] | None = key(
        None,
        "Database user, instead of the secret's `username`.",
        rds="UserName",
        default_text="the secret's",
        example="app",
    )
    description: Annotated[str, Field(min_length=1, max_length=1000)] | None = key(
        None, "A note for people.", rds="Description", example="the application"
    )


Policy = Literal["pin", "ignore", "refuse"]


def _policy(about: str) -> Any:
    return key("pin", f"{about}.", example="pin")


class PinPolicySection(Section):
    setting: Policy = _policy("A setting changed in a way that only the server knows")
    prepared_sql: Policy = _policy("SQL's `PREPARE` and `EXECUTE`")
    temporary_object: Policy = _policy("Temporary tables and other temporary objects")
    cursor: Policy = _policy("`DECLARE … WITH HOLD`")
    listen: Policy = _policy("`LISTEN`")
    load: Policy = _policy("`LOAD`")
    sequence: Policy = _policy("`nextval`, `setval`, `currval`, `lastval`")
    advisory_lock: Policy = _policy("Advisory locks of the session")
    do_block: Policy = _policy("`DO` blocks")
    function: Policy = _policy("Functions whose state no statement takes back: `setseed`, `dblink_connect` …")


class TargetGroupSection(Section):
    targets: list[AddressText] = key(
        [],
        "The database servers: `host:port`, `[v6]:port` or `/directory:port` of a Unix socket. The first one is the"
        " writer (`READ_WRITE` endpoints), the others are readers (`READ_ONLY` endpoints).",
        default_text="none: required",
        example=["10.0.1.5:5432"],
    )
    db_cluster_identifier: str | None = key(
        None,
        "An Aurora or Multi-AZ DB cluster to discover and follow.",
        rds="DBClusterIdentifiers",
        example="orders",
    )
    db_instance_identifier: str | None = key(
        None, "An RDS instance to discover and follow.", rds="DBInstanceIdentifiers", example="orders-1"
    )
    max_connections_percent: int = key(
        100,
        "Ceiling of connections to one target, in percent of its `max_connections`, for the whole proxy.",
        rds="MaxConnectionsPercent",
        ge=1,
        le=100,
        unit="percent",
        example=100,
    )
    max_idle_connections_percent: int | None = key(
        None,
        "Ceiling of idle connections, in percent of `max_connections`; at most `max_connections_percent`.",
        rds="MaxIdleConnectionsPercent",
        ge=0,
        le=100,
        unit="percent",
        default_text="half of `max_connections_percent`",
        example=50,
    )
    max_connections: int | None = key(
        None,
        "Ceiling of connections to one target as a number, beside the percentage: the lower one counts.",
        ge=1,
        le=16_384,
        default_text="no ceiling of its own",
        example=20,
    )
    connection_borrow_timeout: float = key(
        120.0,
        "How long a request waits for a database connection, free or opened. 0: only for one that is idle now.",
        rds="ConnectionBorrowTimeout",
        ge=0,
        le=300,
        unit="seconds",
        example=120,
    )
    init_query: Text = key(
        "",
        "SQL that runs once on every new database connection; `;` between statements.",
        rds="InitQuery",
        default_text="none",
        example="SET work_mem = '64MB'",
    )
    session_pinning_filters: list[Literal["EXCLUDE_VARIABLE_SETS"]] = key(
        [],
        "`EXCLUDE_VARIABLE_SETS`: a SET that cannot be tracked does not pin; the same as"
        ' `pin_policy.setting = "ignore"`.',
        rds="SessionPinningFilters",
        default_text="none",
        example=["EXCLUDE_VARIABLE_SETS"],
    )
    pin_policy: PinPolicySection = key(
        PinPolicySection(),
        'What becomes of a statement that would pin its client to a database connection. "ignore": it runs and does'
        ' not pin (you know that what it leaves behind is harmless). "refuse": it is answered with an error.',
        example={},
    )
    pin_audit_after: float = key(
        5.0,
        "A pinned client that rests for this long has its database connection asked whether anything is left of what"
        " had pinned; if not, it is pinned no longer. 0: never.",
        ge=0,
        le=_DAY,
        unit="seconds",
        example=5,
    )
    max_prepared_statements: int = key(
        256,
        "Statements kept prepared on one database connection; the one used longest ago makes room.",
        ge=1,
        le=100_000,
        example=256,
    )
    sslmode: ServerSslMode = key(
        SslMode.PREFER, "TLS towards the database; libpq's six modes with libpq's meaning.", example="prefer"
    )
    sslnegotiation: Literal["postgres", "direct"] = key(
        "postgres",
        'How TLS begins: by asking first, or at once ("direct", PostgreSQL 17 and later).',
        example="postgres",
    )
    ca_file: FilePath | None = key(
        None, "Authorities that may have signed the database's certificate, PEM.", example="rds-ca.pem"
    )
    cert_file: FilePath | None = key(None, "Certificate shown to the database, PEM.", example="proxy.crt")
    key_file: FilePath | None = key(None, "Private key of `cert_file`, PEM, not encrypted.", example="proxy.key")
    connect_timeout: float = key(
        15.0,
        "How long opening one database connection may take: dialling, TLS and login.",
        ge=0.1,
        le=300,
        unit="seconds",
        example=15,
    )
    server_idle_timeout: float = key(
        300.0,
        "After this time without use a database connection counts as idle.",
        ge=0.1,
        le=_MONTH,
        unit="seconds",
        example=300,
    )
    server_life: float = key(
        86_400.0,
        "Age at which a database connection is closed once it is free.",
        ge=1,
        le=_MONTH,
        unit="seconds",
        example=86_400,
    )


class EndpointSection(Section):
    name: Name = key(
        about="Name, unique in its proxy; `default` is the read/write one.",
        rds="DBProxyEndpointName",
        example="default",
    )
    target_role: Role = key(
        TargetRole.READ_WRITE, "Which targets its clients reach.", rds="TargetRole", example="READ_WRITE"
    )
    listen: AddressText = key(
        about="Where clients connect: `host:port`, `[v6]:port` or `/directory:port` for a Unix socket.",
        example="127.0.0.1:5432",
    )


class ProxySection(Section):
    name: Name = key(about="Name, unique in the file.", rds="DBProxyName", example="proxy")
    engine_family: Family = key(
        about="Protocol of the database. `MYSQL` is part of the vocabulary; this version serves `POSTGRESQL`.",
        rds="EngineFamily",
        example="POSTGRESQL",
    )
    require_tls: bool = key(False, "Refuse clients that do not use TLS.", rds="RequireTLS", example=True)
    idle_client_timeout: float = key(
        1800.0,
        "A client that sends nothing for this long is disconnected.",
        rds="IdleClientTimeout",
        ge=1,
        le=28_800,
        unit="seconds",
        example=1800,
    )
    client_life: float = key(
        86_400.0,
        "A client connection is closed at this age (RDS Proxy: 24 hours, fixed).",
        ge=1,
        le=_MONTH,
        unit="seconds",
        example=86_400,
    )
    debug_logging: bool = key(False, "Log more.", rds="DebugLogging", example=False)
    default_auth_scheme: Literal["NONE", "IAM_AUTH"] = key(
        "NONE",
        "`IAM_AUTH`: end-to-end IAM, without secrets. This version serves `NONE`.",
        rds="DefaultAuthScheme",
        example="NONE",
    )
    login_timeout: float = key(
        15.0,
        "How long a client may take from connecting to being logged in.",
        ge=0.1,
        le=300,
        unit="seconds",
        example=15,
    )
    max_half_open_logins: int = key(
        1000, "Logins in progress at a time, for each worker.", ge=1, le=100_000, example=1000
    )
    max_client_connections: int = key(
        10_000, "Client connections at a time, all workers together.", ge=1, le=1_000_000, example=10_000
    )
    tls: TlsSection = key(TlsSection(), "TLS towards clients.", example={})
    auth: list[AuthSection] = key([], "One table for each database user.", rds="Auth", example=[])
    target_group: TargetGroupSection = key(
        about="The databases behind the proxy and the pool in front of them.", rds="ConnectionPoolConfig", example={}
    )
    endpoint: list[EndpointSection] = key([], "One table for each address clients connect to.", example=[])


class File(Section):
    server: ServerSection = key(ServerSection(), "The process itself.", example={})
    proxy: list[ProxySection] = key([], "One table for each proxy.", example=[])


# Keys that RDS Proxy's users bring along, and what becomes of them here.
FOREIGN_KEYS = {
    "role_arn": "belongs to AWS; remove it",
    "vpc_id": "belongs to AWS; remove it",
    "vpc_subnet_ids": "belongs to AWS; remove it, and write the addresses into `listen` of each endpoint",
    "vpc_security_group_ids": "belongs to AWS; remove it, and let a firewall decide who may connect",
    "tags": "belongs to AWS; remove it",
    "endpoint_network_type": "write IPv4 or IPv6 addresses into `listen` of each endpoint instead",
    "target_connection_network_type": "write IPv4 or IPv6 addresses into `targets` instead",
    "target_group_name": "there is one target group for each proxy, always called default; remove it",
    "db_proxy_name": 'write it as "name"',
    "db_proxy_endpoint_name": 'write it as "name"',
    "secret_arn": 'write it as "secret"',
    "user_name": 'write it as "username"',
    "password": "a password does not belong in this file: put it into the secret that `secret` names",
    "db_cluster_identifiers": 'write one "db_cluster_identifier"',
    "db_instance_identifiers": 'write one "db_instance_identifier"',
}
