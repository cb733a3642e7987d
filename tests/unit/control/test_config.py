"""The configuration: what is accepted, and for everything else the exact place and the words of the remedy.

Each bad case is the good file with one change; it must give exactly one error, so no mistake is reported twice.
"""

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control import config as control
from proxy.control.config import Config, ConfigError, ConfigErrors, load, parse
from proxy.model import EngineFamily, SslMode, TargetRole
from tests.harness.certs import Authority, self_signed

GOOD: dict[str, Any] = {
    "server": {"workers": 2, "metrics_listen": "127.0.0.1:9187", "drain_timeout": 5},
    "proxy": [
        {
            "name": "orders",
            "engine_family": "POSTGRESQL",
            "auth": [{"secret": "file:app.json"}, {"secret": "env:OTHER", "username": "other"}],
            "target_group": {"targets": ["10.0.1.5:5432", "[fe80::1]:5432"], "max_connections_percent": 90},
            "endpoint": [
                {"name": "default", "listen": "127.0.0.1:21300"},
                {"name": "readers", "target_role": "READ_ONLY", "listen": "127.0.0.1:21301"},
            ],
        }
    ],
}
REMOVE = object()


def toml(value: Any) -> str:
    """Any value as inline TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return repr(value)


def document(data: dict[str, Any]) -> str:
    return "\n".join(f"{toml(key)} = {toml(value)}" for key, value in data.items())


def changed(*changes: tuple[str, Any]) -> dict[str, Any]:
    """GOOD with changes: ("proxy.0.name", value); REMOVE removes; an index one behind the end appends."""
    data = tomllib.loads(document(GOOD))
    for path, value in changes:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = data
        for part in parents:
            place = place.setdefault(part, {}) if isinstance(part, str) else place[part]
        if value is REMOVE:
            del place[last]
        elif isinstance(place, list) and last == len(place):
            place.append(value)
        else:
            place[last] = value
    return data


def errors_of(data: dict[str, Any] | str, path: Path = Path("/nowhere/proxy.toml")) -> ConfigErrors:
    with pytest.raises(ConfigErrors) as caught:
        parse(data if isinstance(data, str) else document(data), path)
    return caught.value


def good(data: dict[str, Any], path: Path = Path("/nowhere/proxy.toml")) -> Config:
    return parse(document(data), path)


# what is right


def test_the_good_file() -> None:
    config = good(GOOD)
    assert config.server.workers == 2
    (proxy,) = config.proxies
    assert proxy.engine_family is EngineFamily.POSTGRESQL
    assert [endpoint.target_role for endpoint in proxy.endpoint] == [TargetRole.READ_WRITE, TargetRole.READ_ONLY]
    assert str(config.metrics_listen) == "127.0.0.1:9187"
    assert config.warnings == ()


def test_defaults_are_those_of_rds_proxy() -> None:
    proxy = good(GOOD).proxies[0]
    assert (proxy.require_tls, proxy.idle_client_timeout, proxy.debug_logging) == (False, 1800, False)
    assert proxy.default_auth_scheme == "NONE"
    group = proxy.target_group
    assert group.max_idle_connections_percent is None
    assert (group.connection_borrow_timeout, group.init_query, group.session_pinning_filters) == (120, "", [])
    assert group.sslmode is SslMode.PREFER
    assert (
        good(changed(("proxy.0.target_group.max_connections_percent", REMOVE)))
        .proxies[0]
        .target_group.max_connections_percent
        == 100
    )


GOOD_CHANGES = [
    ("proxy.0.name", "a"),
    ("proxy.0.name", "A1-b2-c3"),
    ("proxy.0.name", "a" * 63),
    ("proxy.0.idle_client_timeout", 1),
    ("proxy.0.idle_client_timeout", 28_800),
    ("proxy.0.idle_client_timeout", 1.5),
    ("proxy.0.target_group.max_connections_percent", 1),
    ("proxy.0.target_group.max_connections_percent", 100),
    ("proxy.0.target_group.max_idle_connections_percent", 0),
    ("proxy.0.target_group.max_idle_connections_percent", 90),
    ("proxy.0.target_group.connection_borrow_timeout", 0),
    ("proxy.0.target_group.connection_borrow_timeout", 300),
    ("proxy.0.target_group.connection_borrow_timeout", 0.25),
    ("proxy.0.target_group.max_connections", 20),
    ("proxy.0.target_group.init_query", "SET a = 1; SET b = 2"),
    ("proxy.0.target_group.sslmode", "require"),
    ("proxy.0.target_group.targets", ["/run/postgresql:5432", "db.example.com:5432"]),
    ("proxy.0.target_group.targets", ["localhost:5432", "LOCALHOST:5433"]),
    ("proxy.0.endpoint.0.listen", "[::1]:21300"),
    ("proxy.0.endpoint.0.listen", "0.0.0.0:21300"),
    ("proxy.0.endpoint.0.listen", "/run/sluiceway:5432"),
    ("proxy.0.endpoint.1.listen", "127.0.0.2:21300"),
    ("proxy.0.auth.0.client_password_auth_type", "POSTGRES_MD5"),
    ("proxy.0.auth.0.iam_auth", "DISABLED"),
    ("proxy.0.auth.0.auth_scheme", "SECRETS"),
    ("proxy.0.auth.0.description", "the application"),
    ("proxy.0.tls.mode", "off"),
    ("proxy.0.debug_logging", True),
    ("server", REMOVE),
    ("server.workers", 127),
    ("server.drain_timeout", 0),
]


@pytest.mark.parametrize(("path", "value"), GOOD_CHANGES, ids=str)
def test_accepted(path: str, value: Any) -> None:
    assert good(changed((path, value))).warnings == ()


# what is wrong: (path of the change, value) → (path of the error, words of the remedy)

BAD = [
    # names
    ("proxy.0.name", REMOVE, "proxy[0].name", 'is required; add name = "proxy"'),
    ("proxy.0.name", "", "proxy[0].name", "from 1 to 63 characters"),
    ("proxy.0.name", "a" * 64, "proxy[0].name", "from 1 to 63 characters"),
    ("proxy.0.name", "1a", "proxy[0].name", "beginning with a letter"),
    ("proxy.0.name", "a--b", "proxy[0].name", "single hyphens"),
    ("proxy.0.name", "a-", "proxy[0].name", "not ending with a hyphen"),
    ("proxy.0.name", "a_b", "proxy[0].name", "letters, digits and single hyphens"),
    ("proxy.0.name", "a\n", "proxy[0].name", "letters, digits and single hyphens"),
    ("proxy.0.name", 7, "proxy[0].name", 'must be text in quotes: name = "proxy"'),
    ("proxy.0.endpoint.0.name", "0", "proxy[0].endpoint[0].name", "beginning with a letter"),
    ("proxy.0.endpoint.0.name", REMOVE, "proxy[0].endpoint[0].name", "is required"),
    # enums
    ("proxy.0.engine_family", "postgresql", "proxy[0].engine_family", 'spell it "POSTGRESQL": case matters'),
    ("proxy.0.engine_family", "POSTGRES", "proxy[0].engine_family", 'did you mean "POSTGRESQL"?'),
    ("proxy.0.engine_family", "SQLSERVER", "proxy[0].engine_family", "SQL Server is not covered"),
    ("proxy.0.engine_family", 1, "proxy[0].engine_family", 'must be "POSTGRESQL" or "MYSQL", in quotes'),
    ("proxy.0.engine_family", REMOVE, "proxy[0].engine_family", "is required"),
    ("proxy.0.engine_family", "MYSQL", "proxy[0].engine_family", "later version; this one serves POSTGRESQL"),
    ("proxy.0.endpoint.0.target_role", "WRITE", "proxy[0].endpoint[0].target_role", 'did you mean "READ_WRITE"?'),
    ("proxy.0.target_group.sslmode", "verify_full", "proxy[0].target_group.sslmode", 'did you mean "verify-full"?'),
    (
        "proxy.0.auth.0.client_password_auth_type",
        "POSTGRES_SCRAM_SHA2_256",
        "proxy[0].auth[0].client_password_auth_type",
        'did you mean "POSTGRES_SCRAM_SHA_256"?',
    ),
    ("proxy.0.tls", {"minimum_version": 1.2}, "proxy[0].tls.minimum_version", 'must be "1.2" or "1.3", in quotes'),
    ("proxy.0.tls", {"minimum_version": "1.0"}, "proxy[0].tls.minimum_version", 'must be "1.2" or "1.3"'),
    ("proxy.0.default_auth_scheme", "IAM_AUTH", "proxy[0].default_auth_scheme", "IAM comes in a later version"),
    ("proxy.0.auth.0.iam_auth", "REQUIRED", "proxy[0].auth[0].iam_auth", "IAM comes in a later version"),
    ("proxy.0.auth.0.iam_auth", "ENABLED", "proxy[0].auth[0].iam_auth", "SQL Server only"),
    # ranges of RDS Proxy
    (
        "proxy.0.target_group.max_connections_percent",
        0,
        "proxy[0].target_group.max_connections_percent",
        "must be from 1 to 100 percent",
    ),
    (
        "proxy.0.target_group.max_connections_percent",
        101,
        "proxy[0].target_group.max_connections_percent",
        "must be from 1 to 100 percent",
    ),
    (
        "proxy.0.target_group.max_connections_percent",
        50.5,
        "proxy[0].target_group.max_connections_percent",
        "whole number from 1 to 100 percent",
    ),
    (
        "proxy.0.target_group.max_connections_percent",
        "90",
        "proxy[0].target_group.max_connections_percent",
        "without quotes",
    ),
    (
        "proxy.0.target_group.max_connections_percent",
        True,
        "proxy[0].target_group.max_connections_percent",
        "whole number",
    ),
    (
        "proxy.0.target_group.max_idle_connections_percent",
        -1,
        "proxy[0].target_group.max_idle_connections_percent",
        "from 0 to 100",
    ),
    (
        "proxy.0.target_group.max_idle_connections_percent",
        91,
        "proxy[0].target_group.max_idle_connections_percent",
        "at most max_connections_percent, which is 90",
    ),
    (
        "proxy.0.target_group.connection_borrow_timeout",
        -1,
        "proxy[0].target_group.connection_borrow_timeout",
        "from 0 to 300 seconds",
    ),
    (
        "proxy.0.target_group.connection_borrow_timeout",
        300.5,
        "proxy[0].target_group.connection_borrow_timeout",
        "from 0 to 300 seconds",
    ),
    (
        "proxy.0.target_group.connection_borrow_timeout",
        float("nan"),
        "proxy[0].target_group.connection_borrow_timeout",
        "from 0 to 300 seconds",
    ),
    (
        "proxy.0.target_group.connection_borrow_timeout",
        float("inf"),
        "proxy[0].target_group.connection_borrow_timeout",
        "from 0 to 300 seconds",
    ),
    ("proxy.0.idle_client_timeout", 0, "proxy[0].idle_client_timeout", "from 1 to 28,800 seconds"),
    ("proxy.0.idle_client_timeout", 28_801, "proxy[0].idle_client_timeout", "from 1 to 28,800 seconds"),
    ("proxy.0.idle_client_timeout", "30", "proxy[0].idle_client_timeout", "without quotes"),
    ("proxy.0.require_tls", "yes", "proxy[0].require_tls", "true or false, without quotes"),
    ("proxy.0.require_tls", 1, "proxy[0].require_tls", "true or false, without quotes"),
    ("proxy.0.auth.0.username", "u" * 129, "proxy[0].auth[0].username", "from 1 to 128 characters"),
    ("proxy.0.auth.0.description", "", "proxy[0].auth[0].description", "from 1 to 1,000 characters"),
    ("proxy.0.auth.0.description", "d" * 1001, "proxy[0].auth[0].description", "from 1 to 1,000 characters"),
    ("proxy.0.auth.0.secret", "file:" + "x" * 2048, "proxy[0].auth[0].secret", "up to 2,048 characters"),
    # our own ranges
    ("server.workers", 0, "server.workers", "from 1 to 127"),
    ("server.workers", 128, "server.workers", "from 1 to 127"),
    ("server.drain_timeout", -1, "server.drain_timeout", "from 0 to 86,400 seconds"),
    ("server.run_dir", "", "server.run_dir", "is empty"),
    ("proxy.0.client_life", 0, "proxy[0].client_life", "from 1 to 2,592,000 seconds"),
    ("proxy.0.login_timeout", 0, "proxy[0].login_timeout", "from 0.1 to 300 seconds"),
    ("proxy.0.max_half_open_logins", 0, "proxy[0].max_half_open_logins", "from 1 to 100,000"),
    ("proxy.0.max_client_connections", 0, "proxy[0].max_client_connections", "from 1 to 1,000,000"),
    ("proxy.0.target_group.max_connections", 0, "proxy[0].target_group.max_connections", "from 1 to 16,384"),
    ("proxy.0.target_group.init_query", "SELECT '\0'", "proxy[0].target_group.init_query", "NUL"),
    # unknown keys
    ("proxy.0.RequireTLS", True, "proxy[0].RequireTLS", 'did you mean "require_tls"?'),
    ("proxy.0.IdleClientTimeout", 5, "proxy[0].IdleClientTimeout", 'did you mean "idle_client_timeout"?'),
    ("proxy.0.idle-client-timeout", 5, "proxy[0].idle-client-timeout", 'did you mean "idle_client_timeout"?'),
    ("proxy.0.idle_clint_timeout", 5, "proxy[0].idle_clint_timeout", 'did you mean "idle_client_timeout"?'),
    (
        "proxy.0.max_connections_percent",
        5,
        "proxy[0].max_connections_percent",
        "belongs into [proxy.target_group]",
    ),
    ("proxy.0.secret", "file:x", "proxy[0].secret", "belongs into [[proxy.auth]]"),
    ("proxy.0.role_arn", "arn:x", "proxy[0].role_arn", "belongs to AWS; remove it"),
    ("proxy.0.VpcSubnetIds", ["a"], "proxy[0].VpcSubnetIds", "belongs to AWS"),
    ("proxy.0.auth.0.SecretArn", "arn:x", "proxy[0].auth[0].SecretArn", 'write it as "secret"'),
    ("proxy.0.auth.0.password", "hunter2", "proxy[0].auth[0].password", "does not belong in this file"),
    ("server.zzz", 1, "server.zzz", "known here: workers, run_dir, metrics_listen, drain_timeout"),
    ("zzz", 1, "zzz", "known here: server, proxy"),
    # tables
    ("proxy", {"name": "a"}, "proxy", "write [[proxy]] with double brackets"),
    ("proxy", [], "proxy", "add a [[proxy]] table"),
    ("proxy", REMOVE, "proxy", "add a [[proxy]] table"),
    ("proxy.0", 7, "proxy[0]", "must be a table: write [proxy]"),
    ("proxy.0.target_group", REMOVE, "proxy[0].target_group", "add a [proxy.target_group] table"),
    ("proxy.0.target_group", [{}], "proxy[0].target_group", "there is only one: write [proxy.target_group]"),
    ("proxy.0.target_group", "x", "proxy[0].target_group", "must be a table: write [proxy.target_group]"),
    ("proxy.0.endpoint", {}, "proxy[0].endpoint", "write [[proxy.endpoint]] with double brackets"),
    ("proxy.0.endpoint", [], "proxy[0].endpoint", "add an [[proxy.endpoint]] table"),
    ("proxy.0.auth", REMOVE, "proxy[0].auth", "add a [[proxy.auth]] table"),
    # addresses
    ("proxy.0.target_group.targets", REMOVE, "proxy[0].target_group.targets", 'targets = ["host:5432"]'),
    ("proxy.0.target_group.targets", "a:1", "proxy[0].target_group.targets", "must be a list: targets = ["),
    ("proxy.0.target_group.targets.1", 5432, "proxy[0].target_group.targets[1]", "must be text in quotes"),
    ("proxy.0.target_group.targets.1", "db", "proxy[0].target_group.targets[1]", "the port is missing"),
    ("proxy.0.target_group.targets.1", "db:0", "proxy[0].target_group.targets[1]", "from 1 to 65535"),
    ("proxy.0.target_group.targets.1", "db:65536", "proxy[0].target_group.targets[1]", "from 1 to 65535"),
    ("proxy.0.target_group.targets.1", "db:٣", "proxy[0].target_group.targets[1]", "from 1 to 65535"),
    ("proxy.0.target_group.targets.1", "::1:5432", "proxy[0].target_group.targets[1]", "in brackets: [::1]:5432"),
    ("proxy.0.target_group.targets.1", "[::1]", "proxy[0].target_group.targets[1]", "in brackets"),
    ("proxy.0.target_group.targets.1", "[x]:1", "proxy[0].target_group.targets[1]", "not an IPv6 address"),
    ("proxy.0.target_group.targets.1", "10.0.0.256:1", "proxy[0].target_group.targets[1]", "not an IPv4 address"),
    ("proxy.0.target_group.targets.1", "a b:1", "proxy[0].target_group.targets[1]", "not a host name"),
    ("proxy.0.target_group.targets.1", "postgres://a:1", "proxy[0].target_group.targets[1]", "not a URL"),
    (
        "proxy.0.target_group.targets.1",
        "10.0.1.5:5432",
        "proxy[0].target_group.targets[1]",
        "proxy[0].target_group.targets[0] is the same server",
    ),
    ("proxy.0.target_group.targets.1", "/" + "d" * 100 + ":5432", "proxy[0].target_group.targets[1]", "107 bytes"),
    ("proxy.0.endpoint.0.listen", ":5432", "proxy[0].endpoint[0].listen", "127.0.0.1:5432 for this machine only"),
    ("proxy.0.endpoint.0.listen", "*:5432", "proxy[0].endpoint[0].listen", "0.0.0.0"),
    ("proxy.0.endpoint.0.listen", REMOVE, "proxy[0].endpoint[0].listen", "is required"),
    (
        "proxy.0.endpoint.1.listen",
        "127.0.0.1:21300",
        "proxy[0].endpoint[1].listen",
        "proxy[0].endpoint[0].listen listens there already",
    ),
    (
        "server.metrics_listen",
        "127.0.0.1:21300",
        "proxy[0].endpoint[0].listen",
        "server.metrics_listen listens there already",
    ),
    ("server.metrics_listen", "/run/x:1", "server.metrics_listen", "over TCP"),
    (
        "proxy.0.target_group.targets.0",
        "localhost:21300",
        "proxy[0].target_group.targets[0]",
        "would connect to itself",
    ),
    # AWS comes later
    (
        "proxy.0.target_group.db_cluster_identifier",
        "orders",
        "proxy[0].target_group.db_cluster_identifier",
        'later version; write the addresses: targets = ["host:5432"]',
    ),
    (
        "proxy.0.auth.0.secret",
        "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x",
        "proxy[0].auth[0].secret",
        'Secrets Manager comes in a later version; use "file:PATH" or "env:NAME"',
    ),
    # secrets
    ("proxy.0.auth.0.secret", "hunter2", "proxy[0].auth[0].secret", "the secret itself does not belong in this file"),
    ("proxy.0.auth.0.secret", "file:", "proxy[0].auth[0].secret", 'write "file:PATH" or "env:NAME"'),
    ("proxy.0.auth.0.secret", 7, "proxy[0].auth[0].secret", "must be text in quotes"),
    ("proxy.0.auth.1", {"secret": "file:app.json"}, "proxy[0].auth[1].secret", "proxy[0].auth[0] names the same"),
    # one key against another
    ("proxy.0.endpoint.1.name", "default", "proxy[0].endpoint[1].name", "has the same name"),
    (
        "proxy.0.auth.0.client_password_auth_type",
        "MYSQL_NATIVE_PASSWORD",
        "proxy[0].auth[0].client_password_auth_type",
        'is not for POSTGRESQL; use "POSTGRES_SCRAM_SHA_256" or "POSTGRES_MD5"',
    ),
    (
        "proxy.0.target_group",
        {
            "targets": ["10.0.1.5:5432", "10.0.1.6:5432"],
            "session_pinning_filters": ["EXCLUDE_VARIABLE_SETS"],
            "pin_policy": {"setting": "refuse"},
        },
        "proxy[0].target_group.session_pinning_filters",
        "say different things",
    ),
    ("proxy.0.target_group.pin_policy", {"listen": "forbid"}, "proxy[0].target_group.pin_policy.listen", "refuse"),
    ("proxy.0.target_group.pin_policy", {"lisen": "pin"}, "proxy[0].target_group.pin_policy.lisen", "listen"),
    ("proxy.0.target_group.pin_audit_after", -1, "proxy[0].target_group.pin_audit_after", "from 0 to 86,400 seconds"),
    ("proxy.0.target_group.max_prepared_statements", 0, "proxy[0].target_group.max_prepared_statements", "from 1 to"),
    (
        "proxy.0.target_group.session_pinning_filters",
        ["EVERYTHING"],
        "proxy[0].target_group.session_pinning_filters[0]",
        "EXCLUDE_VARIABLE_SETS",
    ),
    (
        "proxy.0.target_group.targets",
        ["10.0.1.5:5432"],
        "proxy[0].endpoint[1].target_role",
        "needs a reader: add a second address to targets",
    ),
    ("proxy.0.endpoint.0.target_role", "READ_ONLY", "proxy[0].endpoint[0].target_role", "is the READ_WRITE one"),
    ("proxy.0.require_tls", True, "proxy[0].tls.cert_file", "require_tls = true needs a certificate"),
    ("proxy.0.tls", {"mode": "allow"}, "proxy[0].tls.cert_file", 'tls.mode = "allow" needs a certificate'),
    ("proxy.0.tls", {"key_file": "/dev/null"}, "proxy[0].tls.cert_file", "is missing beside key_file"),
    (
        "proxy.0.tls",
        {"client_ca_file": "ca.crt"},
        "proxy[0].tls.client_ca_file",
        "has no effect without client_certificates",
    ),
    ("proxy.0.target_group.sslmode", "verify-full", "proxy[0].target_group.sslmode", "needs ca_file"),
    ("proxy.0.target_group.sslnegotiation", "direct", "proxy[0].target_group.sslnegotiation", 'sslmode = "require"'),
    ("proxy.0.target_group.ca_file", "missing.pem", "proxy[0].target_group.ca_file", "No such file or directory"),
    ("proxy.0.target_group.key_file", "/dev/null", "proxy[0].target_group.cert_file", "is missing beside key_file"),
]


@pytest.mark.parametrize(("change", "value", "path", "words"), BAD, ids=lambda v: str(v)[:40])
def test_refused(change: str, value: Any, path: str, words: str) -> None:
    found = errors_of(changed((change, value))).errors
    ours = [error for error in found if error.path == path]
    assert len(ours) == 1, found
    assert words in ours[0].remedy
    # a change of one value is one mistake, except where one value is missing for two others
    allowed = {"proxy[0].tls.client_ca_file", "server.metrics_listen", "proxy[0].endpoint[0].target_role"}
    assert len(found) == 1 or path in allowed, found


def test_there_are_enough_cases() -> None:
    assert len(BAD) + len(GOOD_CHANGES) >= 80


def test_all_errors_at_once() -> None:
    data = changed(
        ("server.workers", 0),
        ("proxy.0.name", "0"),
        ("proxy.0.RequireTLS", True),
        ("proxy.0.target_group.max_connections_percent", 101),
        ("proxy.0.target_group.targets.1", "db"),
        ("proxy.0.endpoint.1.listen", "127.0.0.1:21300"),
        ("proxy.0.auth.0.client_password_auth_type", "MYSQL_NATIVE_PASSWORD"),
    )
    assert [error.path for error in errors_of(data).errors] == [
        "proxy[0].RequireTLS",
        "proxy[0].auth[0].client_password_auth_type",
        "proxy[0].endpoint[1].listen",
        "proxy[0].name",
        "proxy[0].target_group.max_connections_percent",
        "proxy[0].target_group.targets[1]",
        "server.workers",
    ]


def test_every_proxy_is_checked_and_proxies_do_not_collide() -> None:
    second = changed(("proxy.0.endpoint.0.listen", "127.0.0.1:21302"))["proxy"][0]
    found = errors_of(changed(("proxy.1", second))).errors
    assert {(error.path, error.remedy.split(";")[0]) for error in found} == {
        ("proxy[1].name", "proxy[0].name has the same name"),
        ("proxy[1].endpoint[1].listen", "proxy[0].endpoint[1].listen listens there already"),
    }


def test_too_many() -> None:
    many = [{"secret": f"file:{n}.json"} for n in range(201)]
    endpoints = [{"name": f"e{n}", "listen": f"127.0.0.{n + 1}:21300"} for n in range(21)]
    (error,) = errors_of(changed(("proxy.0.auth", many))).errors
    assert (error.path, "at most 200" in error.remedy) == ("proxy[0].auth", True)
    (error,) = errors_of(changed(("proxy.0.endpoint", endpoints))).errors
    assert (error.path, "at most 20" in error.remedy) == ("proxy[0].endpoint", True)
    endpoints[0]["name"] = "default"
    good(changed(("proxy.0.endpoint", endpoints)))


def test_too_many_for_shared_memory() -> None:
    targets = [f"10.0.0.{n}:5432" for n in range(65)]
    (error,) = errors_of(changed(("proxy.0.target_group.targets", targets))).errors
    assert (error.path, "at most 64" in error.remedy) == ("proxy", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server", "not valid TOML"),
        ("a = b", 'text needs quotes: name = "orders"'),
        ("[proxy]\n[proxy]\n", "double brackets: [[proxy]]"),
        ("a = 1\na = 2\n", "(at line 2"),
    ],
)
def test_syntax_errors(text: str, words: str) -> None:
    (error,) = errors_of(text).errors
    assert words in error.remedy


def test_a_password_in_the_wrong_place_is_not_repeated() -> None:
    data = changed(
        ("proxy.0.auth.0.secret", "hunter2"),
        ("proxy.0.auth.1.password", "hunter2"),
        ("proxy.0.password", {"deep": "hunter2"}),
    )
    assert "hunter2" not in str(errors_of(data))
    assert "hunter2" not in repr(errors_of(data).errors)


# files


def test_certificates_are_read(tmp_path: Path) -> None:
    certificate, other = self_signed(tmp_path, "localhost"), self_signed(tmp_path, "other")
    authority = Authority(tmp_path)
    path = tmp_path / "proxy.toml"
    tls = {"cert_file": str(certificate.cert), "key_file": str(certificate.key)}
    ok = good(changed(("proxy.0.require_tls", True), ("proxy.0.tls", tls)), path)
    assert ok.warnings == ()
    (error,) = errors_of(changed(("proxy.0.tls", {**tls, "key_file": str(other.key)})), path).errors
    assert (error.path, "belong together" in error.remedy) == ("proxy[0].tls.cert_file", True)
    (error,) = errors_of(changed(("proxy.0.tls", {**tls, "key_file": "none.key"})), path).errors
    assert (error.path, str(tmp_path / "none.key") in error.remedy) == ("proxy[0].tls.key_file", True)
    contradiction = changed(("proxy.0.require_tls", False), ("proxy.0.tls", {**tls, "mode": "require"}))
    (error,) = errors_of(contradiction, path).errors
    assert (error.path, "contradicts" in error.remedy) == ("proxy[0].require_tls", True)
    contradiction = changed(("proxy.0.require_tls", True), ("proxy.0.tls", {**tls, "mode": "allow"}))
    (error,) = errors_of(contradiction, path).errors
    assert (error.path, "contradicts" in error.remedy) == ("proxy[0].tls.mode", True)
    asks = {**tls, "client_certificates": "required"}
    (error,) = errors_of(changed(("proxy.0.tls", asks)), path).errors
    assert (error.path, "needs client_ca_file" in error.remedy) == ("proxy[0].tls.client_certificates", True)
    good(changed(("proxy.0.tls", {**asks, "client_ca_file": str(authority.ca)})), path)
    (error,) = errors_of(changed(("proxy.0.tls", {**asks, "client_ca_file": str(certificate.key)})), path).errors
    assert (error.path, "no certificates" in error.remedy) == ("proxy[0].tls.client_ca_file", True)


def test_a_private_key_everybody_can_read_is_a_warning(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    certificate.key.chmod(0o644)
    tls = {"cert_file": str(certificate.cert), "key_file": str(certificate.key)}
    (warning,) = good(changed(("proxy.0.tls", tls)), tmp_path / "proxy.toml").warnings
    assert (warning.path, f"chmod 600 {certificate.key}" in warning.remedy) == ("proxy[0].tls.key_file", True)


def test_files_the_mode_makes_useless(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    group = {"targets": ["a:1", "b:1"], "sslmode": "disable", "ca_file": str(certificate.cert)}
    (error,) = errors_of(changed(("proxy.0.target_group", group)), tmp_path / "proxy.toml").errors
    assert (error.path, 'no effect with sslmode = "disable"' in error.remedy) == ("proxy[0].target_group.ca_file", True)
    good(changed(("proxy.0.target_group", {**group, "sslmode": "verify-full"})), tmp_path / "proxy.toml")


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    with pytest.raises(ConfigErrors, match="No such file"):
        load(path)
    path.write_bytes(b"# fine\n# caf\xe9\n")
    with pytest.raises(ConfigErrors, match="not UTF-8 in line 2"):
        load(path)
    path.write_text(document(GOOD))
    config = load(path)
    assert config.path == path
    assert config.resolve("a/b") == tmp_path / "a/b"
    assert config.resolve("/a/b") == Path("/a/b")


def test_run_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_RUN_DIR", "/chosen")
    assert good(GOOD).run_dir == Path("/chosen")
    assert good(changed(("server.run_dir", "run"))).run_dir == Path("/nowhere/run")


# warnings


WARNED = [
    ("proxy.0.endpoint.1.target_role", "READ_WRITE", "proxy[0].target_group.targets", "only the first address is used"),
    ("proxy.0.client_life", 60, "proxy[0].idle_client_timeout", "never reached"),
    ("proxy.0.target_group.server_life", 60, "proxy[0].target_group.server_idle_timeout", "never reached"),
    ("proxy.0.endpoint.0.listen", "0.0.0.0:21301", "proxy[0].endpoint[1].listen", "listens on every interface"),
]


@pytest.mark.parametrize(("change", "value", "path", "words"), WARNED)
def test_warned(change: str, value: Any, path: str, words: str) -> None:
    (warning,) = good(changed((change, value))).warnings
    assert warning.path == path
    assert words in warning.remedy


def test_two_proxies_share_a_database() -> None:
    second = changed(
        ("proxy.0.name", "second"),
        ("proxy.0.endpoint.0.listen", "127.0.0.1:21302"),
        ("proxy.0.endpoint.1.listen", "127.0.0.1:21303"),
        ("proxy.0.target_group.targets.1", "10.0.9.9:5432"),
    )["proxy"][0]
    (warning,) = good(changed(("proxy.1", second))).warnings
    assert warning.path == "proxy[1].target_group.targets[0]"
    assert "180 percent" in warning.remedy


def test_needs_restart() -> None:
    old, new = good(GOOD), good(changed(("server.workers", 3), ("server.drain_timeout", 9)))
    assert control.needs_restart(old, old) == []
    assert control.needs_restart(old, new) == ["server.workers: 2 → 3 takes effect after a restart"]
    (text,) = control.needs_restart(old, good(changed(("server.workers", REMOVE))))
    assert "2 → default" in text


# whatever the file holds, the answer is a Config or ConfigErrors

VALUES = st.one_of(
    st.integers(-1, 3), st.booleans(), st.floats(allow_nan=True), st.text(max_size=4), st.just([]), st.just({}),
    st.lists(st.one_of(st.integers(), st.text(max_size=3), st.just({}), st.just([])), max_size=3),
    st.dictionaries(st.sampled_from(["name", "auth", "targets", "x"]), st.integers(), max_size=2),
)  # fmt: skip
PLACES = sorted({row[0] for row in BAD} | {row[0] for row in GOOD_CHANGES})


@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
def test_nothing_else_escapes(changes: list[tuple[str, Any]]) -> None:
    data = changed()
    for path, value in changes:
        try:
            *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
            place: Any = data
            for part in parents:
                place = place[part]
            place[last] = copy.deepcopy(value)  # a later change may be inside it
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    errors: tuple[ConfigError, ...] = ()
    try:
        good(data)
    except ConfigErrors as found:
        errors = found.errors
        if not errors:
            pytest.fail("refused without an error")
    assert all(error.path and error.remedy for error in errors)
