"""What the proxy says to a client when it refuses, gives up or closes: one class per sentence, for both protocols.

The texts of the first part are RDS Proxy's, verbatim, because clients and alarms match on them; the second part is
ours, worded and coded as the database itself would. An error knows its SQLSTATE, its MySQL errno, its severity and
whether trying again on a new connection may succeed without doing harm (`retryable`). It knows no bytes:
`pgsql/messages` and its MySQL twin turn it into a message. Texts carry names and limits, never secrets. Everyone may
import it; it imports nothing.
"""

from typing import ClassVar

__all__ = [
    "AccessDeniedByDatabase",
    "AdminShutdown",
    "BorrowTimeout",
    "ChannelBindingFailed",
    "ClientLifeReached",
    "ConnectRateExceeded",
    "DatabaseError",
    "Draining",
    "EndpointRemoved",
    "IamFailed",
    "IamNotConfigured",
    "IamRateExceeded",
    "IamRequired",
    "IamTokenInvalid",
    "IamWithoutTls",
    "IdleClientTimeout",
    "InvalidCommandLine",
    "InvalidParameterValue",
    "KilledByOperator",
    "LoginTimeout",
    "NoCredentials",
    "NoReadOnlyTarget",
    "NoReadWriteTarget",
    "PinRefused",
    "ProtocolViolation",
    "ProxyError",
    "QueryCanceled",
    "ReplicationUnsupported",
    "ServerBusy",
    "ServerLost",
    "SessionStateLost",
    "TlsHandshakeFailed",
    "TlsRequired",
    "TooManyClients",
    "UnknownError",
    "UnrecognizedParameter",
    "UnsupportedAuthentication",
    "UnsupportedCharacterSet",
    "UnsupportedOption",
    "UnsupportedProtocol",
    "UserNameMissing",
    "WrongPassword",
]


class ProxyError(Exception):
    """What a client is told; `pg` and `mysql` are templates over its fields; without `mysql`, `pg` serves."""

    sqlstate: ClassVar[str] = "XX000"
    errno: ClassVar[int] = 1105  # ER_UNKNOWN_ERROR
    mysql_sqlstate: ClassVar[str] = "HY000"
    # RDS Proxy's severity is not published. Whatever ends the connection is FATAL, as from the database itself.
    severity: ClassVar[str] = "FATAL"
    retryable: ClassVar[bool] = False
    pg: ClassVar[str] = "Unknown error."
    mysql: ClassVar[str] = ""

    def __init__(self, **fields: str | int) -> None:
        super().__init__(*fields.values())  # the constructor's arguments in order: the exception survives pickling
        self.fields = fields
        self.detail: str | None = None  # the D and H fields of an ErrorResponse, where they help
        self.hint: str | None = None

    @property
    def pg_text(self) -> str:
        return self.pg.format_map(self.fields)

    @property
    def mysql_text(self) -> str:
        return (self.mysql or self.pg).format_map(self.fields)

    def __str__(self) -> str:
        return self.pg_text


class _RoleError(ProxyError):
    """An error that names the role (MySQL: the user)."""

    def __init__(self, role: str) -> None:
        super().__init__(role=role)


class _LimitError(ProxyError):
    """An error that names the limit that was reached."""

    sqlstate = "53300"
    errno = 1040
    retryable = True

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


# RDS Proxy's own texts


class BorrowTimeout(ProxyError):
    severity = "ERROR"  # the request fails, the session goes on: a retry on the same connection is welcome
    sqlstate, errno, retryable = "08000", 9501, True
    pg = "Timed-out waiting to acquire database connection."
    mysql = "Timed-out waiting to acquire database connection"  # without a full stop, unlike PostgreSQL's


class TooManyClients(_LimitError):
    pg = "The maximum number of client connections to the proxy exceeded {limit}."
    mysql = "Number simultaneous connections exceeded ({limit})"


class ConnectRateExceeded(_LimitError):
    pg = "Rate of connection to proxy exceeded {limit}."
    mysql = "Connections rate limit exceeded ({limit})"


class IamRateExceeded(ProxyError):
    sqlstate, errno, retryable = "53300", 1040, True
    pg = "The IAM authentication failed because of too many competing requests."
    mysql = "IAM authentication rate limit exceeded"


class TlsRequired(ProxyError):
    sqlstate, errno = "28000", 3159
    pg = "This RDS Proxy requires TLS connections."


class NoCredentials(_RoleError):
    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "This RDS proxy has no credentials for the role {role}. Check the credentials for this role and try again."
    mysql = "Access denied for user '{role}'@'%' (using password: YES)"


class WrongPassword(_RoleError):
    sqlstate, errno, mysql_sqlstate = "28P01", 1045, "28000"
    pg = "The password that was provided for the role {role} is wrong."
    mysql = "Access denied for user '{role}'@'%' (using password: YES)"


class UnsupportedAuthentication(ProxyError):
    sqlstate, errno, mysql_sqlstate = "28000", 1251, "08004"  # ER_NOT_SUPPORTED_AUTH_MODE
    pg = "RDS supports only IAM, MD5, or SCRAM authentication."
    mysql = "Client does not support authentication protocol requested by server; consider upgrading MySQL client"


class UserNameMissing(ProxyError):
    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "A user name is missing from the connection startup packet. Provide a user name for this connection."
    mysql = "Access denied for user ''@'%' (using password: NO)"


class IamWithoutTls(ProxyError):
    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "IAM authentication is allowed only with SSL connections."


class IamRequired(ProxyError):
    """The proxy's scheme is IAM_AUTH and the client sent a password."""

    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "Enable IAM authentication for the client connection to the proxy and try again."


class IamNotConfigured(ProxyError):
    """The proxy's scheme is NONE, no secret of the user takes IAM, and the client sent a token."""

    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "Configure IAM authentication as the DefaultAuthScheme in your proxy and try again."


class IamFailed(_RoleError):
    """A token that is expired, for another user, or without permission."""

    sqlstate, errno, mysql_sqlstate = "28P01", 1045, "28000"
    pg = "IAM authentication failed for user {role}. Check the IAM token for this user and try again."
    mysql = "Access denied for user '{role}'@'%' (using password: YES)"


class IamTokenInvalid(_RoleError):
    """Something that is not a token at all."""

    sqlstate, errno, mysql_sqlstate = "28P01", 1045, "28000"
    pg = "The IAM authentication failed for the role {role}. Check the IAM token for this role and try again."
    mysql = "Access denied for user '{role}'@'%' (using password: YES)"


class UnsupportedProtocol(ProxyError):
    sqlstate, errno, mysql_sqlstate = "0A000", 1043, "08S01"  # ER_HANDSHAKE_ERROR
    pg = "Feature not supported: RDS Proxy supports only version 3.0 of the PostgreSQL messaging protocol."
    mysql = "Bad handshake"


class ReplicationUnsupported(ProxyError):
    sqlstate, errno, mysql_sqlstate = "0A000", 1235, "42000"  # ER_NOT_SUPPORTED_YET
    pg = "Feature not supported: RDS Proxy currently doesn't support streaming replication mode."


class UnsupportedOption(ProxyError):
    """A startup parameter that is refused; `options` itself is called "command-line options"."""

    sqlstate, errno, mysql_sqlstate = "0A000", 1235, "42000"

    def __init__(self, name: str) -> None:
        super().__init__(name=name)

    @property
    def pg_text(self) -> str:
        what = "command-line options" if self.fields["name"] == "options" else f"the option {self.fields['name']}"
        return f"Feature not supported: RDS Proxy currently doesn't support {what}."

    @property
    def mysql_text(self) -> str:
        return self.pg_text


class UnsupportedCharacterSet(ProxyError):
    """`ucs2`, `utf16` and their like as the client's character set."""

    sqlstate, errno, mysql_sqlstate = "22023", 1231, "42000"
    pg = 'invalid value for parameter "client_encoding": "{value}"'
    mysql = "Variable ''character_set_client'' can't be set to the value of {value}"

    def __init__(self, value: str) -> None:
        super().__init__(value=value)


class TlsHandshakeFailed(ProxyError):
    sqlstate, errno = "08P01", 2026
    pg = "SSL connection error: Internal Server Error"


class DatabaseError(ProxyError):
    """The database refused, and its own ErrorResponse is not at hand to be passed on."""

    sqlstate = "XX000"
    pg = "Request returned an error: {text}."

    def __init__(self, text: str) -> None:
        super().__init__(text=text)


class UnknownError(ProxyError):
    pg = "Unknown error."
    mysql = "Unknown error"


class NoReadWriteTarget(ProxyError):
    # published without a SQLSTATE; the sibling of the borrow timeout, known at once
    sqlstate, errno, retryable = "08000", 9501, True
    pg = "The target group doesn't have any associated read/write instances"


class NoReadOnlyTarget(ProxyError):
    sqlstate, errno, retryable = "08000", 9501, True
    pg = "The target group doesn't have any associated read-only instances"


# our own, coded as the database itself would


class ProtocolViolation(ProxyError):
    sqlstate, errno = "08P01", 1835  # ER_MALFORMED_PACKET
    pg = "{detail}"

    def __init__(self, detail: str) -> None:
        super().__init__(detail=detail)


class ChannelBindingFailed(ProxyError):
    """SCRAM: the two sides do not agree on the TLS channel, or somebody between them hid what was offered."""

    sqlstate, errno, mysql_sqlstate = "28000", 1045, "28000"
    pg = "{text}"

    def __init__(self, text: str) -> None:
        super().__init__(text=text)


class UnrecognizedParameter(ProxyError):
    """A setting whose name the database could not have, found before the database is asked."""

    sqlstate, errno, mysql_sqlstate = "42704", 1193, "HY000"  # ER_UNKNOWN_SYSTEM_VARIABLE
    pg = 'unrecognized configuration parameter "{name}"'

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class InvalidParameterValue(ProxyError):
    sqlstate, errno, mysql_sqlstate = "22023", 1231, "42000"  # ER_WRONG_VALUE_FOR_VAR
    pg = 'invalid value for parameter "{name}": "{value}"'

    def __init__(self, name: str, value: str) -> None:
        super().__init__(name=name, value=value)


class InvalidCommandLine(ProxyError):
    """`options` in the startup packet that PostgreSQL's own switch parser would refuse."""

    sqlstate, errno, mysql_sqlstate = "42601", 1064, "42000"  # ER_PARSE_ERROR
    pg = "{text}"

    def __init__(self, text: str) -> None:
        super().__init__(text=text)


class AccessDeniedByDatabase(_RoleError):
    """The secret's password is not the database's; the client's was right, so this is not the client's mistake."""

    sqlstate, errno, mysql_sqlstate = "28P01", 1045, "28000"
    pg = 'password authentication failed for user "{role}"'
    mysql = "Access denied for user '{role}'@'%' (using password: YES)"


class LoginTimeout(ProxyError):
    # as PostgreSQL at authentication_timeout; 1159 is ER_NET_READ_INTERRUPTED
    sqlstate, errno, mysql_sqlstate, retryable = "57014", 1159, "08S01", True
    pg = "canceling authentication due to timeout"
    mysql = "Got timeout reading communication packets"


class ServerBusy(ProxyError):
    """Too many half-open logins."""

    sqlstate, errno, mysql_sqlstate, retryable = "53300", 1040, "08004", True
    pg = "too many connections are logging in"
    mysql = "Too many connections"


class AdminShutdown(ProxyError):
    sqlstate, errno, mysql_sqlstate, retryable = "57P01", 1053, "08S01", True  # ER_SERVER_SHUTDOWN
    pg = "terminating connection due to administrator command"
    mysql = "Server shutdown in progress"


class Draining(AdminShutdown):
    """Between two transactions: nothing was lost."""


class KilledByOperator(AdminShutdown):
    """`ctl kill`; something may have been running, so a retry may do it twice."""

    errno, mysql_sqlstate, retryable = 1317, "70100", False
    mysql = "Query execution was interrupted"


class EndpointRemoved(AdminShutdown):
    pg = "terminating connection because its endpoint was removed from the proxy"
    mysql = "The endpoint of this connection was removed from the proxy"


class ClientLifeReached(AdminShutdown):
    pg = "terminating connection because it reached its maximum life"
    mysql = "The client was disconnected by the proxy because it reached its maximum life"


class IdleClientTimeout(ProxyError):
    sqlstate, errno, retryable = "57P05", 4031, True  # ER_CLIENT_INTERACTION_TIMEOUT
    pg = "terminating connection due to idle-session timeout"
    mysql = (
        "The client was disconnected by the server because of inactivity. "
        "See wait_timeout and interactive_timeout for configuring this behavior."
    )


class ServerLost(ProxyError):
    """The connection under a running request, or under a pinned session, died: what ran may have happened or not."""

    sqlstate, errno, mysql_sqlstate = "08006", 1158, "08S01"  # ER_NET_READ_ERROR
    pg = "the connection to the database was lost"
    mysql = "Got an error reading communication packets"


class SessionStateLost(ProxyError):
    """What the client had set in its session was refused on another database connection (a role that is gone …)."""

    sqlstate, errno, mysql_sqlstate = "08006", 1158, "08S01"
    pg = "the settings of the session could not be restored on another database connection"


class PinRefused(ProxyError):
    """`reason`: the name of a PinReason."""

    sqlstate, errno, mysql_sqlstate, severity = "0A000", 1235, "42000", "ERROR"
    pg = "this statement would bind the session to one database connection, which is not allowed here ({reason})"

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)
        self.hint = f"pin_policy.{reason} in the proxy's configuration decides that."


class QueryCanceled(ProxyError):
    sqlstate, errno, mysql_sqlstate, severity = "57014", 1317, "70100", "ERROR"
    pg = "canceling statement due to user request"
    mysql = "Query execution was interrupted"
