"""The relay's rows of numbers, in an operator's words: what `ctl clients|servers|pools` and their JSON show.

The relay thread writes numbers because it holds no interpreter; here they get their names. Only the numbers' meaning is
known here (the enums of `_state.pxd`, pin reasons), nobody's user or target: those the front adds.
"""

from typing import Any

from proxy.reasons import PinReason

# in the order of _state.pxd's enums
CLIENT_STATES = ("ready", "waiting", "closing", "lingering")
SERVER_STATES = ("idle", "busy", "cleanup", "held", "parting")

_FLAGS = ("tls", "paused")
_ABSENT_AS_MINUS_ONE = ("server_id", "client_slot", "idle_ms", "wait_ms", "pinned_ms", "permit")


def in_words(what: str, row: dict[str, Any]) -> None:
    """Rewrites one row of `what` (clients, servers or pools) in place."""
    for name in _ABSENT_AS_MINUS_ONE:
        if row.get(name) == -1:
            row[name] = None
    for name in _FLAGS:
        if name in row:
            row[name] = bool(row[name])
    if "pins" in row:
        row["reasons" if what == "pins" else "pins"] = pin_names(row.pop("pins"))
    if "tx_status" in row:
        row["tx_status"] = chr(row["tx_status"]) if row["tx_status"] else None  # I, T or E, as in ReadyForQuery
    if what == "clients":
        state = _name(CLIENT_STATES, row["state"])
        if state == "ready":  # for the relay one state; for an operator: does it work or not
            state = "idle" if row["server_id"] is None else "active"
        row["state"] = state
    elif what == "servers":
        row["state"] = _name(SERVER_STATES, row["state"])


def pin_names(bits: int) -> list[str]:
    """The reasons in a set of pins; bit n is reason n."""
    return [
        reason.name.removeprefix("PIN_").lower()
        for reason in PinReason
        if reason not in (PinReason.PIN_NONE, PinReason.PIN_REASON_COUNT) and bits >> int(reason) & 1
    ]


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else f"state {number}"
