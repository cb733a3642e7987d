"""Reasons as Python enums, with the words an operator reads.

The list itself is `_reasons.pxd` (shared with the compiled relay); `text()` is what logs and `ctl` print.
Source of the published texts: spec of RDS Proxy's log messages (docs/reference.md, "Logs").
"""

from proxy._reasons import CloseReason, ConnectFailure, PinReason

__all__ = ["CloseReason", "ConnectFailure", "PinReason", "name", "pin_reason", "text"]

# two tables: members of different enums with the same number are one dictionary key
_CLOSED: dict[CloseReason, str] = {
    CloseReason.CLIENT_TERMINATED: "The client requested that the connection close.",
    CloseReason.CLIENT_GONE: "The TCP channel was closed by either the client or the proxy.",
    CloseReason.SERVER_CLIENT_LEFT: (
        "The client connection that borrowed this database connection from the connection pool "
        "was closed in the middle of a request."
    ),
}
_PINNED: dict[PinReason, str] = {
    PinReason.PIN_SETTING: "SQL changed session settings that the proxy doesn't track.",
    PinReason.PIN_PREPARED_PROTOCOL: "Running a prepared statement.",
}


def text(reason: CloseReason | PinReason) -> str:
    """The published sentence for `reason`, or its name in words where none is published."""
    published = _PINNED.get(reason) if isinstance(reason, PinReason) else _CLOSED.get(reason)
    return published or reason.name.removeprefix("PIN_").replace("_", " ").lower()


def name(reason: PinReason) -> str:
    """As configuration, metrics and views write it: advisory_lock."""
    return reason.name.removeprefix("PIN_").lower()


def pin_reason(written: str) -> PinReason:
    return PinReason[f"PIN_{written.upper()}"]
