"""What several keys of a configuration mean together: one small function for each rule, and every rule is run.

The input is a `schema.File` whose single values are valid (where they were not, `config` has put stand-ins and lists
their places in `bad`: no rule reports on those). The files that are named are opened here, to say now what would fail
later.
"""

import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from proxy.control import addresses
from proxy.control.problems import ConfigError, Loc, show, toml_path
from proxy.control.schema import (
    MAX_ENDPOINTS,
    MAX_EXTRA_ENDPOINTS,
    MAX_SECRETS,
    MAX_TARGETS,
    AuthSection,
    File,
    ProxySection,
)
from proxy.model import (
    ClientCertificates,
    ClientPasswordAuthType,
    ClientTlsMode,
    EngineFamily,
    IamAuth,
    SslMode,
    TargetRole,
)

__all__ = ["Checker"]

_AUTH_TYPES = {
    EngineFamily.POSTGRESQL: (ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256, ClientPasswordAuthType.POSTGRES_MD5),
    EngineFamily.MYSQL: (
        ClientPasswordAuthType.MYSQL_CACHING_SHA2_PASSWORD,
        ClientPasswordAuthType.MYSQL_NATIVE_PASSWORD,
    ),
}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_STRONG = (SslMode.REQUIRE, SslMode.VERIFY_CA, SslMode.VERIFY_FULL)


class Checker:
    """Runs every rule over one file; afterwards `errors` and `warnings` are full."""

    def __init__(self, file: File, base: Path, bad: set[Loc]) -> None:
        self.file = file
        self.base = base
        self.bad = bad
        self.errors: list[ConfigError] = []
        self.warnings: list[ConfigError] = []

    def run(self) -> None:
        if not self.file.proxy:
            self._error(("proxy",), None, "nothing to serve; add a [[proxy]] table")
        self._unique_proxy_names()
        self._capacity()
        self._listeners()
        self._shared_targets()
        for number, proxy in enumerate(self.file.proxy):
            at: Loc = ("proxy", number)
            self._not_yet(at, proxy)
            self._client_tls(at, proxy)
            self._auth(at, proxy)
            self._target_group(at, proxy)
            self._server_tls(at, proxy)
            self._endpoints(at, proxy)
            self._timeouts(at, proxy)

    # --- reporting

    def _known(self, loc: Loc) -> bool:
        """Nothing at, above or below `loc` was replaced by a stand-in."""
        return not any(loc[: len(bad)] == bad or bad[: len(loc)] == loc for bad in self.bad)

    def _error(self, loc: Loc, value: object, remedy: str, *uses: Loc) -> None:
        if all(self._known(each) for each in (loc, *uses)):
            self.errors.append(ConfigError(toml_path(loc), show(value), remedy))

    def _warn(self, loc: Loc, value: object, remedy: str, *uses: Loc) -> None:
        if all(self._known(each) for each in (loc, *uses)):
            self.warnings.append(ConfigError(toml_path(loc), show(value), remedy))

    # --- the whole file

    def _unique_proxy_names(self) -> None:
        first: dict[str, Loc] = {}
        for number, proxy in enumerate(self.file.proxy):
            loc: Loc = ("proxy", number, "name")
            other = first.setdefault(proxy.name, loc)
            if other != loc:
                self._error(loc, proxy.name, f"{toml_path(other)} has the same name; give each proxy its own", other)

    def _capacity(self) -> None:
        endpoints = sum(len(proxy.endpoint) for proxy in self.file.proxy)
        targets = sum(len(proxy.target_group.targets) for proxy in self.file.proxy)
        if endpoints > MAX_ENDPOINTS:
            self._error(("proxy",), None, f"{endpoints} endpoints in all; one process serves at most {MAX_ENDPOINTS}")
        if targets > MAX_TARGETS:
            self._error(("proxy",), None, f"{targets} targets in all; one process serves at most {MAX_TARGETS}")

    def _addresses(self) -> Iterator[tuple[Loc, addresses.Address]]:
        metrics = self.file.server.metrics_listen
        if metrics is not None:
            yield ("server", "metrics_listen"), addresses.parse(metrics)
        for p, proxy in enumerate(self.file.proxy):
            for e, endpoint in enumerate(proxy.endpoint):
                yield ("proxy", p, "endpoint", e, "listen"), addresses.parse(endpoint.listen)

    def _listeners(self) -> None:
        first: dict[addresses.Address, Loc] = {}
        wildcards: dict[int, tuple[Loc, addresses.Address]] = {}
        listed = list(self._addresses())
        for loc, address in listed:
            if address.is_unix and loc == ("server", "metrics_listen"):
                self._error(loc, str(address), "metrics are served over TCP: write host:port, like 127.0.0.1:9187")
            other = first.setdefault(address, loc)
            if other != loc:
                self._error(loc, str(address), f"{toml_path(other)} listens there already; choose another port", other)
            elif address.is_wildcard:
                wildcards[address.port] = (loc, address)
        for loc, address in listed:
            covering, wildcard = wildcards.get(address.port, (loc, address))
            if covering != loc and not address.is_unix and not address.is_wildcard:
                text = f"{toml_path(covering)} listens on every interface ({wildcard}); here it gets no clients"
                self._warn(loc, str(address), text, covering)
        self._no_loops({address: loc for loc, address in listed})

    def _no_loops(self, listeners: dict[addresses.Address, Loc]) -> None:
        for p, proxy in enumerate(self.file.proxy):
            for t, text in enumerate(proxy.target_group.targets):
                target, loc = addresses.parse(text), ("proxy", p, "target_group", "targets", t)
                same = [at for address, at in listeners.items() if _reaches(target, address)]
                if same:
                    self._error(
                        loc, text, f"{toml_path(same[0])} listens there: the proxy would connect to itself", same[0]
                    )

    def _shared_targets(self) -> None:
        shares: dict[addresses.Address, list[tuple[Loc, int]]] = {}
        for p, proxy in enumerate(self.file.proxy):
            group = proxy.target_group
            for t, text in enumerate(group.targets):
                loc: Loc = ("proxy", p, "target_group", "targets", t)
                shares.setdefault(addresses.parse(text), []).append((loc, group.max_connections_percent))
        for address, users in shares.items():
            total = sum(percent for _, percent in users)
            if len({loc[1] for loc, _ in users}) > 1 and total > 100:
                text = f"its proxies may use {total} percent of its connections; lower max_connections_percent"
                self._warn(users[-1][0], str(address), text, *(loc for loc, _ in users))

    # --- one proxy

    def _not_yet(self, at: Loc, proxy: ProxySection) -> None:
        group = (*at, "target_group")
        if proxy.engine_family is EngineFamily.MYSQL:
            self._error(
                (*at, "engine_family"), "MYSQL", "MySQL and MariaDB come in a later version; this one serves POSTGRESQL"
            )
        if proxy.default_auth_scheme == "IAM_AUTH":
            self._error(
                (*at, "default_auth_scheme"),
                "IAM_AUTH",
                'IAM comes in a later version; use "NONE" and [[proxy.auth]] secrets',
            )
        for name in ("db_cluster_identifier", "db_instance_identifier"):
            value = getattr(proxy.target_group, name)
            if value is not None:
                text = 'discovery in AWS comes in a later version; write the addresses: targets = ["host:5432"]'
                self._error((*group, name), value, text)

    def _client_tls(self, at: Loc, proxy: ProxySection) -> None:
        tls, loc = proxy.tls, (*at, "tls")
        require: Loc = (*at, "require_tls")
        explicit = "require_tls" in proxy.model_fields_set
        needs = proxy.require_tls or tls.mode in {ClientTlsMode.ALLOW, ClientTlsMode.REQUIRE}
        if explicit and not proxy.require_tls and tls.mode is ClientTlsMode.REQUIRE:
            self._error(require, False, 'contradicts tls.mode = "require"; write only one of them', (*loc, "mode"))
        if proxy.require_tls and tls.mode in {ClientTlsMode.OFF, ClientTlsMode.ALLOW}:
            self._error(
                (*loc, "mode"), tls.mode.value, "contradicts require_tls = true; write only one of them", require
            )
        if needs and not (tls.cert_file and tls.key_file):
            missing: Loc = (*loc, "cert_file") if not tls.cert_file else (*loc, "key_file")
            why = "require_tls = true" if proxy.require_tls else f'tls.mode = "{tls.mode.value if tls.mode else ""}"'
            self._error(
                missing,
                None,
                f"{why} needs a certificate: set cert_file and key_file in [proxy.tls]",
                (*loc, "mode"),
                require,
            )
        elif bool(tls.cert_file) != bool(tls.key_file):
            self._half_a_pair(loc, tls.cert_file)
        if tls.mode is ClientTlsMode.OFF and tls.cert_file:
            self._warn((*loc, "cert_file"), tls.cert_file, 'has no effect with tls.mode = "off"', (*loc, "mode"))
        asks = tls.client_certificates is not ClientCertificates.NONE
        if asks and not tls.client_ca_file:
            text = "needs client_ca_file: the authorities whose certificates are accepted"
            self._error((*loc, "client_certificates"), tls.client_certificates.value, text, (*loc, "client_ca_file"))
        if asks and not needs and not tls.cert_file:
            text = "clients can show a certificate only over TLS: set cert_file and key_file"
            self._error((*loc, "client_certificates"), tls.client_certificates.value, text, (*loc, "cert_file"))
        if tls.client_ca_file and not asks:
            text = 'has no effect without client_certificates = "optional" or "required"'
            self._error((*loc, "client_ca_file"), tls.client_ca_file, text, (*loc, "client_certificates"))
        self._pair(loc, tls.cert_file, tls.key_file)
        self._authorities((*loc, "client_ca_file"), tls.client_ca_file if asks else None)

    def _auth(self, at: Loc, proxy: ProxySection) -> None:
        loc = (*at, "auth")
        if not proxy.auth and proxy.default_auth_scheme == "NONE":
            self._error(
                loc, None, "nobody could log in; add a [[proxy.auth]] table with a secret for each database user"
            )
        if len(proxy.auth) > MAX_SECRETS:
            self._error(loc, None, f"{len(proxy.auth)} secrets; at most {MAX_SECRETS} for each proxy: split it in two")
        first: dict[tuple[str, str | None], Loc] = {}
        for number, auth in enumerate(proxy.auth):
            here = (*loc, number)
            other = first.setdefault((auth.secret, auth.username), here)
            if other != here:
                self._error(
                    (*here, "secret"),
                    auth.secret,
                    f"{toml_path(other)} names the same secret; remove one of them",
                    other,
                )
            self._auth_item(here, auth, proxy.engine_family, (*at, "engine_family"))

    def _auth_item(self, here: Loc, auth: AuthSection, family: EngineFamily, family_loc: Loc) -> None:
        if auth.secret.startswith("arn:"):
            text = 'AWS Secrets Manager comes in a later version; use "file:PATH" or "env:NAME" with the same JSON'
            self._error((*here, "secret"), auth.secret, text)
        kind = auth.client_password_auth_type
        if kind is not None and kind not in _AUTH_TYPES[family]:
            allowed = " or ".join(f'"{each.value}"' for each in _AUTH_TYPES[family])
            text = f"is not for {family.value}; use {allowed}"
            self._error((*here, "client_password_auth_type"), kind.value, text, family_loc)
        if auth.iam_auth is IamAuth.REQUIRED:
            self._error((*here, "iam_auth"), "REQUIRED", 'IAM comes in a later version; use "DISABLED"')
        if auth.iam_auth is IamAuth.ENABLED:
            self._error((*here, "iam_auth"), "ENABLED", 'is for SQL Server only; use "DISABLED" or "REQUIRED"')

    def _target_group(self, at: Loc, proxy: ProxySection) -> None:
        group, loc = proxy.target_group, (*at, "target_group")
        if not (group.targets or group.db_cluster_identifier or group.db_instance_identifier):
            self._error((*loc, "targets"), None, 'name the database servers, the writer first: targets = ["host:5432"]')
        first: dict[addresses.Address, Loc] = {}
        for number, text in enumerate(group.targets):
            here = (*loc, "targets", number)
            other = first.setdefault(addresses.parse(text), here)
            if other != here:
                self._error(here, text, f"{toml_path(other)} is the same server; name each target once", other)
        idle = group.max_idle_connections_percent
        if idle is not None and idle > group.max_connections_percent:
            text = f"must be at most max_connections_percent, which is {group.max_connections_percent}"
            self._error((*loc, "max_idle_connections_percent"), idle, text, (*loc, "max_connections_percent"))
        if group.session_pinning_filters and group.pin_policy.setting == "refuse":
            text = 'and pin_policy.setting = "refuse" say different things; remove one of them'
            given = group.session_pinning_filters
            self._error((*loc, "session_pinning_filters"), given, text, (*loc, "pin_policy", "setting"))

    def _server_tls(self, at: Loc, proxy: ProxySection) -> None:
        group, loc = proxy.target_group, (*at, "target_group")
        mode: Loc = (*loc, "sslmode")
        if group.sslmode in {SslMode.VERIFY_CA, SslMode.VERIFY_FULL} and not group.ca_file:
            text = "needs ca_file: the authorities that may have signed the database's certificate"
            self._error(mode, group.sslmode.value, text, (*loc, "ca_file"))
        for name in ("ca_file", "cert_file", "key_file"):
            value = getattr(group, name)
            if value and group.sslmode is SslMode.DISABLE:
                text = 'has no effect with sslmode = "disable"; remove it, or choose another sslmode'
                self._error((*loc, name), value, text, mode)
        if group.sslnegotiation == "direct" and group.sslmode not in _STRONG:
            text = f'needs sslmode = "require", "verify-ca" or "verify-full", not "{group.sslmode.value}"'
            self._error((*loc, "sslnegotiation"), "direct", text, mode)
        if bool(group.cert_file) != bool(group.key_file):
            self._half_a_pair(loc, group.cert_file)
        self._pair(loc, group.cert_file, group.key_file)
        self._authorities((*loc, "ca_file"), group.ca_file)

    def _endpoints(self, at: Loc, proxy: ProxySection) -> None:
        loc = (*at, "endpoint")
        if not proxy.endpoint:
            self._error(loc, None, "clients have nowhere to connect; add an [[proxy.endpoint]] table")
        extra = sum(endpoint.name != "default" for endpoint in proxy.endpoint)
        if extra > MAX_EXTRA_ENDPOINTS:
            text = f'{extra} endpoints beside "default"; at most {MAX_EXTRA_ENDPOINTS} for each proxy'
            self._error(loc, None, text)
        first: dict[str, Loc] = {}
        targets: Loc = (*at, "target_group", "targets")
        for number, endpoint in enumerate(proxy.endpoint):
            here = (*loc, number)
            name, role = (*here, "name"), (*here, "target_role")
            other = first.setdefault(endpoint.name, name)
            if other != name:
                self._error(
                    name, endpoint.name, f"{toml_path(other)} has the same name; give each endpoint its own", other
                )
            if endpoint.target_role is not TargetRole.READ_ONLY or other != name:
                continue
            if endpoint.name == "default":
                text = 'the endpoint called "default" is the READ_WRITE one; give this one another name'
                self._error(role, "READ_ONLY", text, name)
            if len(proxy.target_group.targets) == 1:
                text = "needs a reader: add a second address to targets (the first one is the writer)"
                self._error(role, "READ_ONLY", text, targets)
        readers = any(endpoint.target_role is TargetRole.READ_ONLY for endpoint in proxy.endpoint)
        if len(proxy.target_group.targets) > 1 and not readers and proxy.endpoint:
            text = 'only the first address is used: no endpoint has target_role = "READ_ONLY"'
            self._warn(targets, proxy.target_group.targets, text, loc)

    def _timeouts(self, at: Loc, proxy: ProxySection) -> None:
        if proxy.idle_client_timeout > proxy.client_life:
            text = f"never reached: client_life ends the connection after {proxy.client_life:g} seconds"
            self._warn((*at, "idle_client_timeout"), proxy.idle_client_timeout, text, (*at, "client_life"))
        group, loc = proxy.target_group, (*at, "target_group")
        if group.server_idle_timeout > group.server_life:
            text = f"never reached: server_life ends the connection after {group.server_life:g} seconds"
            self._warn((*loc, "server_idle_timeout"), group.server_idle_timeout, text, (*loc, "server_life"))

    # --- files

    def _half_a_pair(self, loc: Loc, cert: str | None) -> None:
        missing, given = ("key_file", "cert_file") if cert else ("cert_file", "key_file")
        self._error((*loc, missing), None, f"is missing beside {given}; set both", (*loc, given))

    def _file(self, loc: Loc, name: str | None) -> Path | None:
        """The file, if it can be read; otherwise the problem is reported."""
        if name is None or not self._known(loc):
            return None
        path = self.base / name
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            self._error(loc, name, f"cannot read {path}: {error.strerror}; check the path and its permissions")
            return None
        return path

    def _pair(self, loc: Loc, cert: str | None, key: str | None) -> None:
        cert_path, key_path = self._file((*loc, "cert_file"), cert), self._file((*loc, "key_file"), key)
        if key_path is not None and key_path.stat().st_mode & stat.S_IROTH:
            self._warn(
                (*loc, "key_file"), key, f"everybody on this machine can read the private key: chmod 600 {key_path}"
            )
        if cert_path is None or key_path is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_path, key_path, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            text = (
                f"certificate and key cannot be used ({reason}): both must be PEM, belong together, and be unencrypted"
            )
            self._error((*loc, "cert_file"), cert, text)

    def _authorities(self, loc: Loc, name: str | None) -> None:
        path = self._file(loc, name)
        if path is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except ssl.SSLError as error:
            self._error(loc, name, f"holds no certificates in PEM ({error.reason or error})")


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _reaches(target: addresses.Address, listener: addresses.Address) -> bool:
    """The target is the listener, as far as can be told without asking anybody."""
    if target.port != listener.port or target.is_unix != listener.is_unix:
        return False
    if target.host == listener.host:
        return True
    return target.host in _LOOPBACK and (listener.is_wildcard or listener.host in _LOOPBACK)
