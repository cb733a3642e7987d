"""What the control socket asks of the controller: the one interface between `admin` (below) and `controller` (above).

`admin/server` receives an object of this shape and imports nothing from the controller. Answers are plain dictionaries
and lists that JSON can carry; they are operator's views: no password, key or statement parameter is ever among them.
A verb that cannot be done raises `RefusedError` with one sentence per reason.
"""

from collections.abc import Sequence
from typing import Any, NotRequired, Protocol, TypedDict

SOCKET_NAME = "control.sock"  # in the run directory; scripts rely on the name
LARGEST_BODY = 65_536  # bytes of a request

Row = dict[str, Any]


class RefusedError(Exception):
    """The verb was understood and cannot be done; `reasons` are for the operator."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons: Sequence[str] = reasons

    def __str__(self) -> str:
        return "\n".join(self.reasons)


class WorkerRow(TypedDict):
    worker: int
    pid: int | None
    state: str  # starting, ready, draining, dead
    snapshot: int  # version it has applied
    clients: int
    servers: int
    restarts: int
    heartbeat_age: NotRequired[float]  # seconds


class EndpointRow(TypedDict):
    proxy: str
    endpoint: str
    role: str
    listen: str
    clients: int
    waiting: int


class TargetRow(TypedDict):
    proxy: str
    target: str
    role: str
    connections: int
    borrowed: int
    pinned: int
    limit: int
    permits: NotRequired[int]  # of the limit: connections open or being opened, of all workers
    state: str  # available, paused, unavailable


class Status(TypedDict):
    version: str
    pid: int  # the supervisor's: where signals go
    uptime: float  # seconds
    snapshot: int
    state: str  # starting, ready, draining, stopping
    config: str  # path of the file
    workers: list[WorkerRow]
    endpoints: list[EndpointRow]
    targets: list[TargetRow]
    controller: NotRequired[dict[str, int]]  # {"pid": …}
    problems: NotRequired[list[str]]  # what an operator should look at, in sentences


class ControlPort(Protocol):
    """Implemented by the controller. Everything may raise `RefusedError`."""

    async def status(self) -> Status: ...

    async def pools(self) -> list[Row]: ...

    async def clients(self) -> list[Row]: ...

    async def servers(self) -> list[Row]: ...

    async def pins(self) -> list[Row]:
        """Clients that hold a database connection beyond their transactions, and why."""
        ...

    async def explain(self, text: str, proxy: str | None = None) -> Row:
        """What the proxy of that name (or the only one) would do with an SQL text: see `admin.explained`."""
        ...

    async def drain(self, deadline: float | None = None) -> Row:
        """Stop accepting, let transactions finish, close idle clients; returns at once. `deadline` in seconds."""
        ...

    async def undrain(self) -> Row:
        """Accept clients again."""
        ...

    async def pause(self, target: str | None = None) -> Row:
        """Hold requests back at transaction boundaries: of one target (as `status` names it) or of all."""
        ...

    async def resume(self, target: str | None = None) -> Row: ...

    async def reload(self) -> Row:
        """Read the configuration again and apply what changed: {"snapshot": version, "changes": [sentence, …]}."""
        ...

    async def shutdown(self, fast: bool = False) -> Row: ...

    async def kill(self, client: int) -> Row:
        """Close one client connection, by the id that `clients` shows."""
        ...
