"""The catalogue of errors: the published texts to the letter, and the rules every class keeps."""

import pickle
import re

import pytest

from proxy import errors
from proxy.errors import ProxyError

# spec of RDS Proxy, "Errors seen by clients": PostgreSQL
PG = [
    (errors.IamWithoutTls(), "28000", "IAM authentication is allowed only with SSL connections."),
    (errors.TlsRequired(), "28000", "This RDS Proxy requires TLS connections."),
    (
        errors.NoCredentials("ann"),
        "28000",
        "This RDS proxy has no credentials for the role ann. Check the credentials for this role and try again.",
    ),
    (errors.UnsupportedAuthentication(), "28000", "RDS supports only IAM, MD5, or SCRAM authentication."),
    (
        errors.UserNameMissing(),
        "28000",
        "A user name is missing from the connection startup packet. Provide a user name for this connection.",
    ),
    (
        errors.IamRequired(),
        "28000",
        "Enable IAM authentication for the client connection to the proxy and try again.",
    ),
    (
        errors.IamNotConfigured(),
        "28000",
        "Configure IAM authentication as the DefaultAuthScheme in your proxy and try again.",
    ),
    (errors.WrongPassword("ann"), "28P01", "The password that was provided for the role ann is wrong."),
    (
        errors.IamFailed("ann"),
        "28P01",
        "IAM authentication failed for user ann. Check the IAM token for this user and try again.",
    ),
    (
        errors.IamTokenInvalid("ann"),
        "28P01",
        "The IAM authentication failed for the role ann. Check the IAM token for this role and try again.",
    ),
    (
        errors.UnsupportedProtocol(),
        "0A000",
        "Feature not supported: RDS Proxy supports only version 3.0 of the PostgreSQL messaging protocol.",
    ),
    (
        errors.ReplicationUnsupported(),
        "0A000",
        "Feature not supported: RDS Proxy currently doesn't support streaming replication mode.",
    ),
    (
        errors.UnsupportedOption("geqo"),
        "0A000",
        "Feature not supported: RDS Proxy currently doesn't support the option geqo.",
    ),
    (
        errors.UnsupportedOption("options"),
        "0A000",
        "Feature not supported: RDS Proxy currently doesn't support command-line options.",
    ),
    (
        errors.IamRateExceeded(),
        "53300",
        "The IAM authentication failed because of too many competing requests.",
    ),
    (errors.TooManyClients(7), "53300", "The maximum number of client connections to the proxy exceeded 7."),
    (errors.ConnectRateExceeded(9), "53300", "Rate of connection to proxy exceeded 9."),
    (errors.BorrowTimeout(), "08000", "Timed-out waiting to acquire database connection."),
    (errors.DatabaseError("no such database"), "XX000", "Request returned an error: no such database."),
    (errors.UnknownError(), "XX000", "Unknown error."),
    (
        errors.NoReadWriteTarget(),
        "08000",
        "The target group doesn't have any associated read/write instances",
    ),
    # ours, in the words of PostgreSQL itself
    (errors.ProtocolViolation("invalid length of startup packet"), "08P01", "invalid length of startup packet"),
    (errors.AdminShutdown(), "57P01", "terminating connection due to administrator command"),
    (errors.IdleClientTimeout(), "57P05", "terminating connection due to idle-session timeout"),
    (errors.QueryCanceled(), "57014", "canceling statement due to user request"),
    (errors.LoginTimeout(), "57014", "canceling authentication due to timeout"),
]

# the same page: MySQL and MariaDB
MYSQL = [
    (errors.ConnectRateExceeded(9), 1040, "HY000", "Connections rate limit exceeded (9)"),
    (errors.IamRateExceeded(), 1040, "HY000", "IAM authentication rate limit exceeded"),
    (errors.TooManyClients(7), 1040, "HY000", "Number simultaneous connections exceeded (7)"),
    (errors.WrongPassword("ann"), 1045, "28000", "Access denied for user 'ann'@'%' (using password: YES)"),
    (errors.NoCredentials("ann"), 1045, "28000", "Access denied for user 'ann'@'%' (using password: YES)"),
    (errors.UnknownError(), 1105, "HY000", "Unknown error"),
    (
        errors.UnsupportedCharacterSet("ucs2"),
        1231,
        "42000",
        "Variable ''character_set_client'' can't be set to the value of ucs2",
    ),
    (errors.TlsHandshakeFailed(), 2026, "HY000", "SSL connection error: Internal Server Error"),
    (errors.TlsRequired(), 3159, "HY000", "This RDS Proxy requires TLS connections."),
    (errors.BorrowTimeout(), 9501, "HY000", "Timed-out waiting to acquire database connection"),
]


@pytest.mark.parametrize(("error", "sqlstate", "text"), PG, ids=lambda v: type(v).__name__)
def test_postgresql_text(error: ProxyError, sqlstate: str, text: str) -> None:
    assert (error.sqlstate, error.pg_text) == (sqlstate, text)


@pytest.mark.parametrize(("error", "errno", "sqlstate", "text"), MYSQL, ids=lambda v: type(v).__name__)
def test_mysql_text(error: ProxyError, errno: int, sqlstate: str, text: str) -> None:
    assert (error.errno, error.mysql_sqlstate, error.mysql_text) == (errno, sqlstate, text)


EVERY = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ProxyError)]
PUBLIC = [cls for cls in EVERY if not cls.__name__.startswith("_")]


def test_every_class_is_exported() -> None:
    assert sorted(cls.__name__ for cls in PUBLIC) == sorted(errors.__all__)


@pytest.mark.parametrize("cls", PUBLIC)
def test_codes_are_well_formed(cls: type[ProxyError]) -> None:
    assert re.fullmatch(r"[0-9A-Z]{5}", cls.sqlstate)
    assert re.fullmatch(r"[0-9A-Z]{5}", cls.mysql_sqlstate)
    assert 1000 <= cls.errno < 10000
    assert cls.severity in {"FATAL", "ERROR"}


def test_a_cancelled_or_unserved_query_leaves_the_connection_open() -> None:
    assert [cls for cls in PUBLIC if cls.severity == "ERROR"] == [
        errors.BorrowTimeout,
        errors.PinRefused,
        errors.QueryCanceled,
    ]


def test_what_may_have_run_is_not_called_retryable() -> None:
    assert not errors.ServerLost.retryable
    assert not errors.KilledByOperator.retryable
    assert errors.Draining.retryable
    assert errors.BorrowTimeout.retryable


def test_str_is_the_postgresql_text() -> None:
    assert str(errors.WrongPassword("ann")) == "The password that was provided for the role ann is wrong."


def test_names_from_clients_are_not_templates() -> None:
    assert "{limit}{0}" in errors.NoCredentials("{limit}{0}").pg_text


@pytest.mark.parametrize("error", [row[0] for row in PG] + [row[0] for row in MYSQL], ids=lambda e: type(e).__name__)
def test_survives_pickling(error: ProxyError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.pg_text, again.mysql_text) == (type(error), error.pg_text, error.mysql_text)


def test_detail_and_hint_are_optional() -> None:
    error = errors.BorrowTimeout()
    assert error.detail is None and error.hint is None
