"""The relay's numbers in words: the names fit the enums they stand for."""

import re
from pathlib import Path
from typing import Any

import pytest

from proxy.dataplane.views import CLIENT_STATES, SERVER_STATES, in_words, pin_names
from proxy.reasons import PinReason

STATE_PXD = Path(__file__).parents[3] / "proxy/dataplane/_state.pxd"


@pytest.mark.parametrize(("enum", "names"), [("ClientState", CLIENT_STATES), ("ServerState", SERVER_STATES)])
def test_names_are_those_of_the_enum(enum: str, names: tuple[str, ...]) -> None:
    body = STATE_PXD.read_text().partition(f"enum {enum}:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^\s+(?:CLIENT|SERVER)_(\w+) = (\d+)", body, re.MULTILINE)
    assert [(name.lower(), int(value)) for name, value in found] == [(name, n) for n, name in enumerate(names)]


def test_a_client() -> None:
    row: dict[str, Any] = {
        "state": 0,
        "server_id": 7,
        "pins": 1 << int(PinReason.PIN_LISTEN),
        "tls": 1,
        "wait_ms": -1,
        "pinned_ms": 5,
    }
    in_words("clients", row)
    assert row == {"state": "active", "server_id": 7, "pins": ["listen"], "tls": True, "wait_ms": None, "pinned_ms": 5}


@pytest.mark.parametrize(
    ("state", "server", "word"),
    [(0, -1, "idle"), (0, 3, "active"), (1, -1, "waiting"), (2, -1, "closing"), (9, -1, "state 9")],
)
def test_client_states(state: int, server: int, word: str) -> None:
    row: dict[str, Any] = {"state": state, "server_id": server, "pins": 0}
    in_words("clients", row)
    assert row["state"] == word


def test_a_server() -> None:
    row: dict[str, Any] = {"state": 1, "client_slot": -1, "tx_status": ord("T"), "pins": 0, "idle_ms": -1}
    in_words("servers", row)
    assert row == {"state": "busy", "client_slot": None, "tx_status": "T", "pins": [], "idle_ms": None}


def test_a_pool() -> None:
    row: dict[str, Any] = {"pool_id": 0, "paused": 1, "waiting": 3}
    in_words("pools", row)
    assert row == {"pool_id": 0, "paused": True, "waiting": 3}


def test_pins_in_the_order_of_the_reasons() -> None:
    both = 1 << int(PinReason.PIN_SETTING) | 1 << int(PinReason.PIN_ADVISORY_LOCK)
    assert pin_names(both) == ["setting", "advisory_lock"]
    assert pin_names(0) == []
