"""From a checked configuration and its secrets to the frozen `Snapshot` that workers receive; how two of them differ.

Slots are places in the shared-memory tables. The `SlotMap` gives an endpoint or target the same place for as long as it
exists, over reloads and restarts of the controller (it travels as JSON); a place that became free is used again only
when no fresh one is left, because the numbers counted there belong to what was there before.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from proxy.control import addresses
from proxy.control.config import Config
from proxy.control.problems import ConfigError, ConfigErrors, Loc, toml_path
from proxy.control.schema import MAX_ENDPOINTS, MAX_TARGETS, AuthSection, ProxySection, TargetGroupSection
from proxy.control.secrets import SecretValue
from proxy.model import (
    ClientPasswordAuthType,
    ClientTls,
    ClientTlsMode,
    Credential,
    Endpoint,
    EngineFamily,
    Proxy,
    ServerTls,
    Snapshot,
    Target,
    TargetGroup,
    TargetRole,
)

__all__ = ["SlotMap", "build", "diff"]

_DEFAULT_AUTH_TYPE = {
    EngineFamily.POSTGRESQL: ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256,
    EngineFamily.MYSQL: ClientPasswordAuthType.MYSQL_CACHING_SHA2_PASSWORD,
}


@dataclass(slots=True)
class Places:
    """One table's slots: who has which, and which were given up, longest ago first."""

    size: int
    taken: dict[str, int] = field(default_factory=dict)
    retired: list[int] = field(default_factory=list)

    def assign(self, keys: Iterable[str]) -> "Places":
        """The table after a change to exactly these keys; this one stays as it is."""
        wanted = list(dict.fromkeys(keys))
        taken = {key: slot for key, slot in self.taken.items() if key in set(wanted)}
        retired = self.retired + [slot for key, slot in self.taken.items() if key not in taken]
        fresh = iter(sorted(set(range(self.size)) - set(taken.values()) - set(retired)))
        for key in wanted:
            if key in taken:
                continue
            slot = next(fresh, None)
            if slot is None:
                if not retired:
                    raise ValueError(f"no place left: {len(wanted)} wanted, {self.size} there")
                slot = retired.pop(0)
            taken[key] = slot
        return Places(self.size, taken, retired)


@dataclass(slots=True)
class SlotMap:
    """Who sits where in the shared-memory tables. `build` moves it on when, and only when, it succeeds."""

    endpoints: Places = field(default_factory=lambda: Places(MAX_ENDPOINTS))
    targets: Places = field(default_factory=lambda: Places(MAX_TARGETS))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            name: {"size": places.size, "taken": dict(places.taken), "retired": list(places.retired)}
            for name, places in (("endpoints", self.endpoints), ("targets", self.targets))
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SlotMap":
        return cls(*(Places(**data[name]) for name in ("endpoints", "targets")))


def build(config: Config, secrets: Mapping[str, SecretValue], slots: SlotMap, version: int) -> Snapshot:
    """The snapshot of this configuration. Users whose secret is not among `secrets` are left out.

    Raises ConfigErrors if a certificate that was there a moment ago cannot be read any more.
    """
    endpoints = slots.endpoints.assign(
        _endpoint_key(proxy, endpoint.name) for proxy in config.proxies for endpoint in proxy.endpoint
    )
    targets = slots.targets.assign(
        _target_key(proxy, text) for proxy in config.proxies for text in proxy.target_group.targets
    )
    proxies = tuple(
        Proxy(
            name=proxy.name,
            engine_family=proxy.engine_family,
            endpoints=tuple(_endpoints(proxy, endpoints.taken)),
            target_group=_target_group(config, number, proxy, targets.taken),
            credentials=tuple(_credentials(proxy, secrets)),
            tls=_client_tls(config, number, proxy),
            idle_client_timeout=proxy.idle_client_timeout,
            client_life=proxy.client_life,
            debug_logging=proxy.debug_logging,
            login_timeout=proxy.login_timeout,
            max_half_open_logins=proxy.max_half_open_logins,
            max_client_connections=proxy.max_client_connections,
        )
        for number, proxy in enumerate(config.proxies)
    )
    slots.endpoints, slots.targets = endpoints, targets
    return Snapshot(version=version, proxies=proxies, drain_timeout=config.server.drain_timeout)


def _endpoint_key(proxy: ProxySection, name: str) -> str:
    return f"{proxy.name}/{name}"


def _target_key(proxy: ProxySection, text: str) -> str:
    return f"{proxy.name}/{addresses.parse(text)}"


def _endpoints(proxy: ProxySection, slots: Mapping[str, int]) -> Iterator[Endpoint]:
    for each in proxy.endpoint:
        address = addresses.parse(each.listen)
        host, port = (address.socket_path, 0) if address.is_unix else (address.host, address.port)
        yield Endpoint(slots[_endpoint_key(proxy, each.name)], each.name, each.target_role, host, port)


def _target_group(config: Config, number: int, proxy: ProxySection, slots: Mapping[str, int]) -> TargetGroup:
    group, loc = proxy.target_group, ("proxy", number, "target_group")
    targets = []
    for place, text in enumerate(group.targets):
        address = addresses.parse(text)
        # without discovery, the order in the file says who is who
        role = TargetRole.READ_ONLY if place else TargetRole.READ_WRITE
        targets.append(Target(slots[_target_key(proxy, text)], address.host, address.port, role))
    idle = group.max_idle_connections_percent
    return TargetGroup(
        targets=tuple(targets),
        tls=ServerTls(
            sslmode=group.sslmode,
            ca_file=_path(config, group.ca_file),
            cert_file=_path(config, group.cert_file),
            key_file=_path(config, group.key_file),
            sslnegotiation=group.sslnegotiation,
            fingerprint=_fingerprint(
                config, loc, ca_file=group.ca_file, cert_file=group.cert_file, key_file=group.key_file
            ),
        ),
        max_connections_percent=group.max_connections_percent,
        max_idle_connections_percent=group.max_connections_percent // 2 if idle is None else idle,
        max_connections=group.max_connections,
        connection_borrow_timeout=group.connection_borrow_timeout,
        init_query=group.init_query.strip(),
        session_pinning_filters=tuple(group.session_pinning_filters),
        pin_policy=_pin_policy(group),
        pin_audit_after=group.pin_audit_after,
        max_prepared_statements=group.max_prepared_statements,
        connect_timeout=group.connect_timeout,
        server_idle_timeout=group.server_idle_timeout,
        server_life=group.server_life,
    )


def _pin_policy(group: TargetGroupSection) -> tuple[tuple[str, str], ...]:
    chosen = {name: str(policy) for name, policy in group.pin_policy if policy != "pin"}
    if group.session_pinning_filters:
        chosen["setting"] = "ignore"
    return tuple(chosen.items())


def _credentials(proxy: ProxySection, secrets: Mapping[str, SecretValue]) -> Iterator[Credential]:
    seen: set[str] = set()
    for auth in proxy.auth:
        credential = _credential(proxy, auth, secrets)
        if credential is not None and credential.username not in seen:
            seen.add(credential.username)
            yield credential


def _credential(proxy: ProxySection, auth: AuthSection, secrets: Mapping[str, SecretValue]) -> Credential | None:
    value = secrets.get(auth.secret)
    if value is None:
        return None
    return Credential(
        username=auth.username or value.username,
        password=value.password,
        client_password_auth_type=auth.client_password_auth_type or _DEFAULT_AUTH_TYPE[proxy.engine_family],
        iam_auth=auth.iam_auth,
        source=auth.secret,
    )


def _client_tls(config: Config, number: int, proxy: ProxySection) -> ClientTls:
    tls = proxy.tls
    mode = tls.mode or (ClientTlsMode.ALLOW if tls.cert_file else ClientTlsMode.OFF)
    return ClientTls(
        mode=ClientTlsMode.REQUIRE if proxy.require_tls else mode,
        cert_file=_path(config, tls.cert_file),
        key_file=_path(config, tls.key_file),
        client_ca_file=_path(config, tls.client_ca_file),
        client_certificates=tls.client_certificates,
        minimum_version=tls.minimum_version,
        fingerprint=_fingerprint(
            config,
            ("proxy", number, "tls"),
            cert_file=tls.cert_file,
            key_file=tls.key_file,
            client_ca_file=tls.client_ca_file,
        ),
    )


def _path(config: Config, name: str | None) -> str | None:
    return str(config.resolve(name)) if name else None


def _fingerprint(config: Config, loc: Loc, **names: str | None) -> str:
    """Of the files' contents: a renewed certificate under the same name is a change."""
    digest, errors = hashlib.sha256(), []
    for key, name in names.items():
        if not name:
            continue
        try:
            content = Path(config.resolve(name)).read_bytes()
        except OSError as error:
            errors.append(ConfigError(toml_path((*loc, key)), name, f"cannot read the file: {error.strerror}"))
            continue
        digest.update(b"%s %d\0" % (key.encode(), len(content)))
        digest.update(content)
    if errors:
        raise ConfigErrors(errors, str(config.path))
    return digest.hexdigest() if any(names.values()) else ""


# What a change is called; everything else is shown as old → new.
_HIDDEN = {"password": "password changed", "fingerprint": "certificate files changed", "slot": ""}
_KEYS = {"proxies": "name", "endpoints": "name", "credentials": "username", "targets": "host"}
_WORDS = {"proxies": "proxy", "endpoints": "endpoint", "credentials": "user", "targets": "target"}


def diff(old: Snapshot, new: Snapshot) -> list[str]:
    """What changed, one sentence for each change. Empty: the same in all but the version."""
    return list(_changes(old, new, ""))


def _changes(old: Any, new: Any, where: str) -> Iterator[str]:
    prefix = f"{where}: " if where else ""
    for each in fields(old):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if before == after or each.name == "version":
            continue
        if each.name in _WORDS:
            yield from _members(each.name, before, after, prefix)
        elif is_dataclass(before):
            yield from _changes(before, after, f"{prefix}{each.name}")
        elif each.name in _HIDDEN:
            if _HIDDEN[each.name]:
                yield f"{prefix}{_HIDDEN[each.name]}"
        else:
            yield f"{prefix}{each.name} {_value(before)} → {_value(after)}"


def _members(name: str, old: Iterable[Any], new: Iterable[Any], prefix: str) -> Iterator[str]:
    before, after = ({_label(name, each): each for each in side} for side in (old, new))
    word = _WORDS[name]
    yield from (f"{prefix}{word} {label} removed" for label in before if label not in after)
    for label, item in after.items():
        if label not in before:
            yield f"{prefix}{word} {label} added"
        else:
            yield from _changes(before[label], item, f"{prefix}{word} {label}")


def _label(name: str, item: Any) -> str:
    if isinstance(item, Target):
        return str(addresses.Address(item.host, item.port))
    return str(getattr(item, _KEYS[name]))


def _value(value: Any) -> str:
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    return str(value)
