"""The one table of numbers that workers count: name, scope, kind, owner, unit, help.

From it come the offsets of the shared-memory arrays (`_fields.pxd`, generated), Prometheus names and CloudWatch
names. Where RDS Proxy has a metric (its manual lists 25), the field carries that name in snake_case and the
original beside it. This module knows no memory: it lays words out, nothing else.

Each field has one writing thread in each worker, so that writing a number is a load and a store. The fields of
the two threads lie on different cache lines. Derived fields have no words: the controller computes them where
they are published.

`python -m proxy.shm.fields` writes `_fields.pxd` again after a change here.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proxy.reasons import CloseReason, PinReason

SUB_BUCKETS = 8  # per octave: a value is known to 1/8 of itself
OCTAVES = 29  # above the linear part; the last bucket ends at 2^32 us, 71 minutes
BUCKETS = SUB_BUCKETS * (OCTAVES + 1)
HISTOGRAM_WORDS = 2 + BUCKETS  # count, sum, buckets
LINE_WORDS = 8  # a cache line


class Scope(StrEnum):
    WORKER = "worker"
    ENDPOINT = "endpoint"
    TARGET = "target"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Owner(StrEnum):
    """The thread of the worker that writes the field; DERIVED is written by nobody."""

    FRONT = "front"
    RELAY = "relay"
    DERIVED = "derived"


class Labels(StrEnum):
    """What the elements of an array field are counted by."""

    NONE = ""
    CLOSE_REASON = "close_reason"
    PIN_REASON = "pin_reason"


LENGTHS = {
    Labels.NONE: 1,
    Labels.CLOSE_REASON: int(CloseReason.CLOSE_REASON_COUNT),
    Labels.PIN_REASON: int(PinReason.PIN_REASON_COUNT),
}
PREFIXES = {Scope.WORKER: "WK", Scope.ENDPOINT: "EP", Scope.TARGET: "TG"}


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    scope: Scope
    kind: Kind
    owner: Owner
    help: str
    metric: str = ""  # RDS Proxy's name of it, if it has one
    unit: str = "count"
    labels: Labels = Labels.NONE

    @property
    def words(self) -> int:
        if self.owner is Owner.DERIVED:
            return 0
        return HISTOGRAM_WORDS if self.kind is Kind.HISTOGRAM else LENGTHS[self.labels]


def _field(
    name: str, scope: Scope, kind: Kind, owner: Owner, text: str, metric: str = "", unit: str = "count"
) -> Field:
    return Field(name, scope, kind, owner, text, metric, unit)


_W, _E, _T = Scope.WORKER, Scope.ENDPOINT, Scope.TARGET
_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_FRONT, _RELAY, _DERIVED = Owner.FRONT, Owner.RELAY, Owner.DERIVED

FIELDS: tuple[Field, ...] = (
    # ------------------------------------------------------------ one worker
    _field("heartbeat", _W, _G, _RELAY, "Relay thread's last sign of life", unit="nanoseconds"),
    _field("loop_turns", _W, _C, _RELAY, "Turns of the relay's loop"),
    _field("events_dropped", _W, _C, _RELAY, "Relay events lost because the front did not collect them"),
    _field("front_heartbeat", _W, _G, _FRONT, "Front thread's last sign of life", unit="nanoseconds"),
    _field("started", _W, _G, _FRONT, "Start of the worker, since 1970", unit="seconds"),
    _field("snapshot_version", _W, _G, _FRONT, "Version of the configuration in force", unit="version"),
    # ------------------------------------------------------------ one endpoint: its clients
    _field("query_requests", _E, _C, _RELAY, "Queries received; several statements in one count once", "QueryRequests"),
    _field("query_requests_tls", _E, _C, _RELAY, "Queries received over TLS", "QueryRequestsTLS"),
    _field("query_requests_no_tls", _E, _C, _RELAY, "Queries received without TLS", "QueryRequestsNoTLS"),
    _field("transactions", _E, _C, _RELAY, "Transactions finished, single statements included"),
    _field("bytes_from_clients", _E, _C, _RELAY, "Bytes read from clients, TLS removed", unit="bytes"),
    _field("bytes_to_clients", _E, _C, _RELAY, "Bytes sent to clients, before TLS", unit="bytes"),
    _field("clients_waiting", _E, _G, _RELAY, "Clients waiting for a database connection now"),
    _field("borrow_timeouts", _E, _C, _RELAY, "Clients refused because connection_borrow_timeout passed"),
    _field("cancels_forwarded", _E, _C, _RELAY, "Cancel requests passed on to the database"),
    _field("cancels_dropped", _E, _C, _RELAY, "Cancel requests with a wrong key, or nothing to cancel"),
    Field("client_closes", _E, _C, _RELAY, "Ready client connections closed, by reason", labels=Labels.CLOSE_REASON),
    _field(
        "query_response_latency", _E, _H, _RELAY, "Request in to answer out", "QueryResponseLatency", "microseconds"
    ),
    _field(
        "query_database_response_latency",
        _E,
        _H,
        _RELAY,
        "Time the database took",
        "QueryDatabaseResponseLatency",
        "microseconds",
    ),
    _field(
        "database_connections_borrow_latency",
        _E,
        _H,
        _RELAY,
        "Time to get a database connection",
        "DatabaseConnectionsBorrowLatency",
        "microseconds",
    ),
    _field("client_connections", _E, _G, _FRONT, "Open client connections", "ClientConnections"),
    _field("client_connections_closed", _E, _C, _FRONT, "Client connections closed", "ClientConnectionsClosed"),
    _field("client_connections_received", _E, _C, _FRONT, "Connection requests", "ClientConnectionsReceived"),
    _field("client_connections_in_setup", _E, _G, _FRONT, "Logins not finished", "ClientConnectionsInSetup"),
    _field(
        "client_connections_setup_succeeded", _E, _C, _FRONT, "Logins that worked", "ClientConnectionsSetupSucceeded"
    ),
    _field(
        "client_connections_setup_failed_auth",
        _E,
        _C,
        _FRONT,
        "Logins refused over authentication or TLS",
        "ClientConnectionsSetupFailedAuth",
    ),
    _field("client_connections_tls", _E, _G, _FRONT, "Open client connections with TLS", "ClientConnectionsTLS"),
    _field(
        "client_connections_no_tls", _E, _G, _FRONT, "Open client connections without TLS", "ClientConnectionsNoTLS"
    ),
    _field("refused", _E, _C, _FRONT, "Connections refused over a limit, a bad startup packet, or while draining"),
    _field("cancels_received", _E, _C, _FRONT, "Cancel requests received"),
    # ------------------------------------------------------------ one target: connections to one database server
    _field("database_connections", _T, _G, _RELAY, "Open database connections", "DatabaseConnections"),
    _field(
        "database_connections_with_tls",
        _T,
        _G,
        _RELAY,
        "Open database connections with TLS",
        "DatabaseConnectionsWithTLS",
    ),
    _field(
        "database_connections_currently_borrowed",
        _T,
        _G,
        _RELAY,
        "Borrowed by a client now",
        "DatabaseConnectionsCurrentlyBorrowed",
    ),
    _field(
        "database_connections_currently_in_transaction",
        _T,
        _G,
        _RELAY,
        "In a transaction now",
        "DatabaseConnectionsCurrentlyInTransaction",
    ),
    _field(
        "database_connections_currently_session_pinned",
        _T,
        _G,
        _RELAY,
        "Pinned to a client now",
        "DatabaseConnectionsCurrentlySessionPinned",
    ),
    _field("bytes_from_servers", _T, _C, _RELAY, "Bytes read from the database, TLS removed", unit="bytes"),
    _field("bytes_to_servers", _T, _C, _RELAY, "Bytes sent to the database, before TLS", unit="bytes"),
    Field("closes", _T, _C, _RELAY, "Database connections closed, by reason", labels=Labels.CLOSE_REASON),
    Field("pins", _T, _C, _RELAY, "Sessions pinned to a database connection, by reason", labels=Labels.PIN_REASON),
    Field("pins_ended", _T, _C, _RELAY, "Pins that ended before their session, by reason", labels=Labels.PIN_REASON),
    Field("pins_ignored", _T, _C, _RELAY, "Statements that pin_policy let pass, by reason", labels=Labels.PIN_REASON),
    Field("pins_refused", _T, _C, _RELAY, "Requests that pin_policy refused, by reason", labels=Labels.PIN_REASON),
    Field(
        "pinned_idle_microseconds",
        _T,
        _C,
        _RELAY,
        "Time for which pinned database connections waited for their client, by what pinned first",
        unit="microseconds",
        labels=Labels.PIN_REASON,
    ),
    _field("settings_replays", _T, _C, _RELAY, "Times a database connection was led to its client's settings, unseen"),
    _field("statements_prepared", _T, _C, _RELAY, "Statements prepared on a connection, for its client, unseen"),
    _field("pin_audits", _T, _C, _RELAY, "Times the database was asked whether anything is left of what had pinned"),
    _field(
        "query_database_response_latency",
        _T,
        _H,
        _RELAY,
        "Time the database took",
        "QueryDatabaseResponseLatency",
        "microseconds",
    ),
    _field(
        "database_connection_requests",
        _T,
        _C,
        _FRONT,
        "Attempts to open a database connection",
        "DatabaseConnectionRequests",
    ),
    _field(
        "database_connection_requests_with_tls",
        _T,
        _C,
        _FRONT,
        "Attempts to open a database connection with TLS",
        "DatabaseConnectionRequestsWithTLS",
    ),
    _field(
        "database_connections_setup_succeeded",
        _T,
        _C,
        _FRONT,
        "Database connections that came up",
        "DatabaseConnectionsSetupSucceeded",
    ),
    _field(
        "database_connections_setup_failed",
        _T,
        _C,
        _FRONT,
        "Database connections that failed to come up",
        "DatabaseConnectionsSetupFailed",
    ),
    _field(
        "max_database_connections_allowed",
        _T,
        _G,
        _DERIVED,
        "Ceiling of database connections (the limit word)",
        "MaxDatabaseConnectionsAllowed",
    ),
    _field(
        "availability_percentage",
        _T,
        _G,
        _DERIVED,
        "Share of time the target was available",
        "AvailabilityPercentage",
        "percent",
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    field: Field
    offset: int  # in 8-byte words from the start of its array


def _lay_out(scope: Scope) -> tuple[dict[str, Place], int]:
    """Relay fields, then front fields from a new cache line on; the whole is a multiple of cache lines."""
    at, places = 0, {}
    for owner in (Owner.RELAY, Owner.FRONT):
        for field in FIELDS:
            if field.scope is scope and field.owner is owner:
                places[field.name] = Place(field, at)
                at += field.words
        at += -at % LINE_WORDS
    return places, at


_LAYOUT = {scope: _lay_out(scope) for scope in Scope}
LAYOUT: dict[str, dict[str, Place]] = {scope.value: _LAYOUT[scope][0] for scope in Scope}
WORDS: dict[str, int] = {scope.value: _LAYOUT[scope][1] for scope in Scope}


def generate() -> str:
    """The text of `_fields.pxd`."""
    lines = [
        "# Generated by `python -m proxy.shm.fields` from proxy/shm/fields.py: do not edit.",
        "# Offsets, in 8-byte words, into the array of a worker (WK_), endpoint (EP_) or target (TG_) of one worker.",
        "",
        "cdef enum:",
        f"    HISTOGRAM_SUB_BUCKETS = {SUB_BUCKETS}",
        f"    HISTOGRAM_BUCKETS = {BUCKETS}",
        f"    HISTOGRAM_WORDS = {HISTOGRAM_WORDS}  # count, sum (us), buckets",
    ]
    for scope in Scope:
        prefix = PREFIXES[scope]
        lines += ["", "cdef enum:"]
        for name, place in LAYOUT[scope].items():
            field = place.field
            note = f"{field.kind}, {field.owner}"
            if field.labels is not Labels.NONE:
                note += f", {field.words} words: + {field.labels}"
            lines.append(f"    {prefix}_{name.upper()} = {place.offset}  # {note}")
        lines.append(f"    {prefix}_WORDS = {WORDS[scope]}")
    return "\n".join(lines) + "\n"


def main() -> None:
    Path(__file__).with_name("_fields.pxd").write_text(generate())


if __name__ == "__main__":
    main()
