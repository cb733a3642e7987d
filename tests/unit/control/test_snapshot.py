"""The snapshot: what the configuration says in the model's terms, slots that stay, and differences in words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.control.config import Config, ConfigErrors, parse
from proxy.control.secrets import SecretValue
from proxy.control.snapshot import Places, SlotMap, build, diff
from proxy.model import ClientPasswordAuthType, ClientTlsMode, Snapshot, SslMode, TargetRole
from tests.harness.certs import self_signed

SECRETS = {"file:a.json": SecretValue("ann", "pa"), "file:b.json": SecretValue("bob", "pb")}
TEXT = """
[[proxy]]
name = "orders"
engine_family = "POSTGRESQL"
idle_client_timeout = 60
  [[proxy.auth]]
  secret = "file:a.json"
  [[proxy.auth]]
  secret = "file:b.json"
  client_password_auth_type = "POSTGRES_MD5"
  username = "ben"
  [proxy.target_group]
  targets = ["10.0.0.1:5432", "[::1]:5433", "/run/pg:5434"]
  max_connections_percent = 31
  init_query = " SET a = 1 "
  [[proxy.endpoint]]
  name = "default"
  listen = "127.0.0.1:21305"
  [[proxy.endpoint]]
  name = "readers"
  target_role = "READ_ONLY"
  listen = "/run/sluiceway:5432"
"""
SECOND = """
[[proxy]]
name = "stock"
engine_family = "POSTGRESQL"
  [[proxy.auth]]
  secret = "file:a.json"
  [proxy.target_group]
  targets = ["10.0.0.1:5432"]
  [[proxy.endpoint]]
  name = "default"
  listen = "127.0.0.1:21306"
"""


def config(text: str = TEXT, path: Path = Path("/nowhere/proxy.toml")) -> Config:
    return parse(text, path)


def snapshot(text: str = TEXT, slots: SlotMap | None = None, version: int = 1) -> Snapshot:
    return build(config(text), SECRETS, slots or SlotMap(), version)


def test_everything_arrives() -> None:
    made = snapshot(version=7)
    assert (made.version, made.drain_timeout) == (7, 30)
    (proxy,) = made.proxies
    assert (proxy.name, proxy.idle_client_timeout, proxy.tls.mode) == ("orders", 60, ClientTlsMode.OFF)
    assert [(each.username, each.password, each.client_password_auth_type) for each in proxy.credentials] == [
        ("ann", "pa", ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256),
        ("ben", "pb", ClientPasswordAuthType.POSTGRES_MD5),
    ]
    group = proxy.target_group
    assert [(each.slot, each.host, each.port, each.role) for each in group.targets] == [
        (0, "10.0.0.1", 5432, TargetRole.READ_WRITE),
        (1, "::1", 5433, TargetRole.READ_ONLY),
        (2, "/run/pg", 5434, TargetRole.READ_ONLY),
    ]
    assert (group.max_connections_percent, group.max_idle_connections_percent) == (31, 15)
    assert (group.init_query, group.tls.sslmode, group.tls.fingerprint) == ("SET a = 1", SslMode.PREFER, "")
    assert [(each.slot, each.name, each.host, each.port) for each in proxy.endpoints] == [
        (0, "default", "127.0.0.1", 21305),
        (1, "readers", "/run/sluiceway/.s.PGSQL.5432", 0),
    ]


def test_no_password_in_the_repr() -> None:
    text = repr(build(config(), {"file:a.json": SecretValue("ann", "hunter2")}, SlotMap(), 1))
    assert "ann" in text
    assert "hunter2" not in text


def test_a_missing_secret_breaks_its_own_user_only() -> None:
    made = build(config(), {"file:b.json": SECRETS["file:b.json"]}, SlotMap(), 1)
    assert [each.username for each in made.proxies[0].credentials] == ["ben"]


def test_tls_and_renewed_certificates(tmp_path: Path) -> None:
    pair = self_signed(tmp_path)
    where = tmp_path / "proxy.toml"
    text = TEXT + f'[proxy.tls]\ncert_file = "{pair.cert.name}"\nkey_file = "{pair.key.name}"\n'
    first = build(config(text, where), SECRETS, SlotMap(), 1)
    tls = first.proxies[0].tls
    assert (tls.mode, tls.cert_file, tls.key_file) == (ClientTlsMode.ALLOW, str(pair.cert), str(pair.key))
    assert len(tls.fingerprint) == 64
    strict = text.replace('name = "orders"', 'name = "orders"\nrequire_tls = true')
    assert build(config(strict, where), SECRETS, SlotMap(), 1).proxies[0].tls.mode is ClientTlsMode.REQUIRE
    self_signed(tmp_path)  # renewed in place
    second = build(config(text, where), SECRETS, SlotMap(), 2)
    assert diff(first, second) == ["proxy orders: tls: certificate files changed"]
    accepted = config(text, where)
    pair.key.unlink()
    slots = SlotMap()
    with pytest.raises(ConfigErrors, match=r"proxy\[0\].tls.key_file"):
        build(accepted, SECRETS, slots, 3)
    assert slots == SlotMap()  # a failed build moves nobody


# slots


def test_slots_stay_over_reloads() -> None:
    slots = SlotMap()
    before = snapshot(TEXT + SECOND, slots)
    orders, stock = before.proxies
    assert {target.slot for target in orders.target_group.targets} == {0, 1, 2}
    assert stock.target_group.targets[0].slot == 3  # the same server, in another pool
    after = snapshot(SECOND + TEXT, slots)
    assert {proxy.name: proxy for proxy in after.proxies} == {"orders": orders, "stock": stock}


def test_slots_stay_over_a_restart_of_the_controller() -> None:
    slots = SlotMap()
    snapshot(TEXT, slots)
    snapshot(SECOND + TEXT, slots)
    again = SlotMap.from_dict(json.loads(json.dumps(slots.to_dict())))
    assert again == slots
    assert snapshot(SECOND + TEXT, again) == snapshot(SECOND + TEXT, slots)


def test_a_free_slot_is_used_again_last() -> None:
    places = Places(3).assign(["a", "b"]).assign(["b", "c"])
    assert places.taken == {"b": 1, "c": 2}
    places = places.assign(["b", "c", "d"])
    assert places.taken == {"b": 1, "c": 2, "d": 0}
    with pytest.raises(ValueError, match="no place left: 4 wanted, 3 there"):
        places.assign(["a", "b", "c", "d"])
    assert places.taken == {"b": 1, "c": 2, "d": 0}


def test_of_free_slots_the_longest_free_one_is_used_first() -> None:
    places = Places(3).assign(["a", "b", "c"]).assign(["a", "c"]).assign(["c"])
    assert places.retired == [1, 0]
    assert places.assign(["c", "d"]).taken == {"c": 2, "d": 1}


# differences


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text, []),
        (
            lambda text: text.replace("percent = 31", "percent = 40"),
            [
                "proxy orders: target_group: max_connections_percent 31 → 40",
                "proxy orders: target_group: max_idle_connections_percent 15 → 20",
            ],
        ),
        (lambda text: text.replace("timeout = 60", "timeout = 90.5"), ["proxy orders: idle_client_timeout 60 → 90.5"]),
        (
            lambda text: text.replace('init_query = " SET a = 1 "', ""),
            ["proxy orders: target_group: init_query SET a = 1 → none"],
        ),
        (lambda text: text.replace("21305", "21307"), ["proxy orders: endpoint default: port 21305 → 21307"]),
        (
            lambda text: text.replace('"readers"', '"analysts"'),
            ["proxy orders: endpoint readers removed", "proxy orders: endpoint analysts added"],
        ),
        (
            lambda text: text.replace("[::1]:5433", "10.0.0.2:5433"),
            [
                "proxy orders: target_group: target [::1]:5433 removed",
                "proxy orders: target_group: target 10.0.0.2:5433 added",
            ],
        ),
        (lambda text: text + SECOND, ["proxy stock added"]),
        (lambda text: "[server]\ndrain_timeout = 5\n" + text, ["drain_timeout 30 → 5"]),
        (
            lambda text: text.replace("POSTGRES_MD5", "POSTGRES_SCRAM_SHA_256"),
            ["proxy orders: user ben: client_password_auth_type POSTGRES_MD5 → POSTGRES_SCRAM_SHA_256"],
        ),
    ],
)
def test_diff(change: Callable[[str], str], words: list[str]) -> None:
    slots = SlotMap()
    assert diff(snapshot(TEXT, slots), snapshot(change(TEXT), slots, version=2)) == words


def test_diff_tells_that_a_password_changed_and_no_more() -> None:
    old = snapshot()
    new = build(config(), {**SECRETS, "file:a.json": SecretValue("ann", "hunter2")}, SlotMap(), 2)
    assert diff(old, new) == ["proxy orders: user ann: password changed"]


def test_diff_of_a_rotated_user() -> None:
    old = snapshot()
    new = build(config(), {**SECRETS, "file:a.json": SecretValue("ann2", "pa")}, SlotMap(), 2)
    assert diff(old, new) == ["proxy orders: user ann removed", "proxy orders: user ann2 added"]
