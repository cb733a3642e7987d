"""A real relay in its thread, with fake clients and fake servers on socketpairs: nothing of a worker but the data path.

    with RelayBox() as box:
        pool = box.pool(borrow_timeout=1)
        alice = box.client(pool)
        alice.send(query("select 1"))
        server = box.server(pool)            # opened because alice asked
        server.expect(query("select 1"))
        server.send(answer("1"))
        alice.expect(answer("1"))

All waiting happens in the test's own thread, in `until()`: it answers the relay's events between two looks at a socket.
Leaving the box proves that nothing leaked: no client, no server, no permit.
"""

import array
import contextlib
import fcntl
import gc
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import proxy.engines.pgsql  # noqa: F401  (registers itself)
from proxy.dataplane._relay import Relay
from proxy.reasons import CloseReason, ConnectFailure, PinReason
from proxy.shm._segment import Segment
from tests.harness import messages as m

PATIENCE_S = 10.0
PARAMETERS = {
    "DateStyle": "ISO, MDY", "TimeZone": "UTC", "client_encoding": "UTF8", "server_version": "15.20",
    "standard_conforming_strings": "on",
}  # fmt: skip
_SQLSTATES = {
    CloseReason.CLOSE_NONE: ("57014", "ERROR"),
    CloseReason.CLIENT_PROTOCOL_VIOLATION: ("08P01", "FATAL"),
    CloseReason.CLIENT_IDLE_TIMEOUT: ("57P05", "FATAL"),
    CloseReason.CLIENT_LIFE_REACHED: ("57P01", "FATAL"),
    CloseReason.BORROW_TIMEOUT: ("08000", "ERROR"),
    CloseReason.CLIENT_DRAINED: ("57P01", "FATAL"),
    CloseReason.CLIENT_SHUTDOWN: ("57P01", "FATAL"),
    CloseReason.CLIENT_KILLED: ("57P01", "FATAL"),
    CloseReason.SERVER_LOST: ("08006", "FATAL"),
    CloseReason.ENDPOINT_REMOVED: ("57P01", "FATAL"),
    CloseReason.CLIENT_STATE_LOST: ("08006", "FATAL"),
}
REFUSALS: dict[int, bytes] = {int(reason): m.error("0A000", reason.name) for reason in PinReason}
ERRORS: dict[int, bytes] = {
    reason: m.error(state, reason.name, severity) for reason, (state, severity) in _SQLSTATES.items()
}


def parameters(**changed: str) -> bytes:
    values = {**PARAMETERS, **changed}
    return b"".join(m.parameter_status(name, values[name]) for name in sorted(values))


class Gone(AssertionError):
    """The relay closed the connection although more was expected."""


class Peer:
    """One end of a socketpair whose other end the relay has."""

    def __init__(self, box: "RelayBox", sock: socket.socket) -> None:
        self.box = box
        self.sock = sock
        self._had = b""  # received, not asked for yet
        self.ended = False  # the relay has closed its end

    def receive(self) -> None:
        while not self.ended:
            try:
                data = self.sock.recv(1 << 16)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            self._had += data
            self.ended = not data

    def send(self, data: bytes) -> None:
        """All of it; while the relay does not take it, events are answered (and nothing is read here)."""
        left = memoryview(data)
        deadline = time.monotonic() + PATIENCE_S
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                assert time.monotonic() < deadline, f"the relay did not take {len(left)} bytes"
                self.box.pump(0.01, writing=[self.sock])
            except ConnectionError:
                return  # closed meanwhile: what it said before that is still to be read

    def send_some(self, data: bytes) -> int:
        """As much as the relay and the socket take before they stand still."""
        sent, idle = 0, 0
        while sent < len(data) and idle < 3:
            try:
                sent += self.sock.send(data[sent : sent + (1 << 20)])
                idle = 0
            except BlockingIOError:
                self.box.settle()
                idle += 1
        return sent

    def send_to(self, data: bytes, *peers: "Peer") -> None:
        """All of it, while the other peers take what reaches them."""
        sent = 0
        deadline = time.monotonic() + PATIENCE_S
        while sent < len(data):
            assert time.monotonic() < deadline, f"the relay did not take {len(data) - sent} bytes"
            with contextlib.suppress(BlockingIOError):
                sent += self.sock.send(data[sent : sent + (1 << 18)])
            for peer in peers:
                peer.receive()
            self.box.pump(0)

    def pieces(self, pieces: Iterable[bytes]) -> None:
        """Each piece is read by the relay before the next one is sent."""
        for piece in pieces:
            self.send(piece)
            self.box.settle()
            while not self._taken():
                self.box.until(self._taken, "the relay to read what was sent")
                self.box.settle()

    def _taken(self) -> bool:
        """Nothing of ours is in the relay's receive queue (of a unix socket: SIOCOUTQ)."""
        room = array.array("i", [0])
        try:
            fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, room)
        except OSError:
            return True
        return room[0] == 0

    def pending(self) -> bool:
        """Something has come that was not read yet."""
        self.receive()
        return bool(self._had)

    def read(self, n: int) -> bytes:
        def there() -> bool:
            self.receive()
            return len(self._had) >= n or self.ended

        self.box.until(there, f"{n} bytes, have {self._had!r:.300}", watching=[self.sock])
        if len(self._had) < n:
            raise Gone(f"closed after {self._had!r:.300}, {n} bytes were expected")
        data, self._had = self._had[:n], self._had[n:]
        return data

    def message(self) -> bytes:
        head = self.read(5)
        (length,) = struct.unpack("!I", head[1:])
        return head + self.read(length - 4)

    def expect(self, *data: bytes) -> None:
        """Exactly these bytes come next."""
        wanted = b"".join(data)
        self.receive()
        found = self.read(min(len(wanted), max(len(self._had), 1))) if wanted else b""
        while found == wanted[: len(found)] and len(found) < len(wanted):
            found += self.read(min(len(wanted) - len(found), max(len(self._had), 1)))
        assert found == wanted, f"\n   got {found!r:.500}\nwanted {wanted!r:.500}"

    def until_end(self) -> bytes:
        """Everything up to the relay's close."""

        def there() -> bool:
            self.receive()
            return self.ended

        self.box.until(there, "the end of the connection", watching=[self.sock])
        data, self._had = self._had, b""
        return data

    def expect_end(self, *data: bytes) -> None:
        """These bytes and then the end."""
        found, wanted = self.until_end(), b"".join(data)
        assert found == wanted, f"\n   got {found!r:.500}\nwanted {wanted!r:.500}"

    def silent(self) -> None:
        """Nothing more came, and the connection is open."""
        self.box.settle()
        self.receive()
        assert not self._had, f"unexpected {self._had!r:.500}"
        assert not self.ended, "closed"

    def close(self) -> None:
        self.sock.close()

    @property
    def closed(self) -> bool:
        return self.sock.fileno() < 0


class FakeClient(Peer):
    def __init__(self, box: "RelayBox", sock: socket.socket, slot: int, key: bytes) -> None:
        super().__init__(box, sock)
        self.slot = slot
        self.key = key
        self.pid = slot * 128

    def expect_end(self, *data: bytes) -> None:
        """These bytes and then the end; a client closes its own side then (see LINGER_MS for one that does not)."""
        super().expect_end(*data)
        self.close()

    @property
    def row(self) -> dict[str, Any] | None:
        return next((row for row in self.box.rows("clients") if row["slot"] == self.slot), None)

    def cancel(self) -> None:
        self.box.relay.cancel(self.slot, self.key)

    def closed_as(self) -> CloseReason:
        """Waits for the event that gives the slot back."""

        def found() -> list[tuple[Any, ...]]:
            return [e for e in self.box.log if e[0] == "client_closed" and e[1] == self.slot]

        self.box.until(lambda: bool(found()), "client_closed")
        return CloseReason(found()[0][2])


class FakeServer(Peer):
    def __init__(self, box: "RelayBox", sock: socket.socket, pool: int, pid: int, key: bytes) -> None:
        super().__init__(box, sock)
        self.pool = pool
        self.pid = pid
        self.key = key

    @property
    def row(self) -> dict[str, Any] | None:
        return next((row for row in self.box.rows("servers") if row["backend_pid"] == self.pid), None)

    @property
    def state(self) -> str:
        """idle, busy, cleanup, held; or closed."""
        row = self.row
        return ("idle", "busy", "cleanup", "held")[row["state"]] if row else "closed"

    def becomes(self, state: str) -> None:
        self.box.until(lambda: self.state == state, f"the server to be {state} (now {self.state})")


class RelayBox:
    """The relay of worker 0. `limit`: connections to target 0."""

    def __init__(self, *, limit: int = 10, workers: int = 1) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.servers: list[FakeServer] = []
        self.clients: list[FakeClient] = []
        self.openings: list[tuple[int, int]] = []  # (pool, permit) not answered yet, while `hold_openings`
        self.hold_openings = False
        self.reports = parameters()  # of the servers opened from now on
        self.server_unread = b""  # what came behind their ReadyForQuery
        self._limit = limit
        self._workers = workers
        self._next = 1
        self._dumps: dict[int, list[dict[str, Any]]] = {}

    def __enter__(self) -> Self:
        self.segment = Segment(self._workers)
        self.relay = Relay(self.segment, 0, ERRORS, REFUSALS)
        self._thread = threading.Thread(target=self.relay.run, name="relay")
        self._thread.start()
        self.relay.limit(0, self._limit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for peer in [*self.clients, *self.servers]:
                peer.close()
            if kind is None:
                self._nothing_left()
        finally:
            self.relay.stop()
            self._thread.join(PATIENCE_S)
            assert not self._thread.is_alive(), "the relay does not end"
            del self.relay
            gc.collect()

    def _nothing_left(self) -> None:
        self.hold_openings = True
        self.relay.resume()
        for event in [e for e in self.log if e[0] == "cancel"]:
            self.relay.cancel_done(event[1])

        def empty() -> bool:
            while self.openings:
                pool, permit = self.openings.pop()
                self.relay.server_failed(pool, permit, int(ConnectFailure.CONNECT_TEMPORARY), b"")
            return not self.rows("clients") and not self.rows("servers") and self.segment.permits_used(0) == 0

        self.until(empty, "everything to be closed and all permits to be back")
        closed = [e[1] for e in self.log if e[0] == "client_closed"]
        assert sorted(closed) == sorted(c.slot for c in self.clients), "every slot is given back once"
        for field in ("clients_waiting",):
            assert self.segment.read("endpoint", 0, field) == 0, field
        for field in (
            "database_connections", "database_connections_currently_borrowed",
            "database_connections_currently_in_transaction", "database_connections_currently_session_pinned",
        ):  # fmt: skip
            assert self.segment.read("target", 0, field) == 0, field

    # ------------------------------------------------------------ waiting

    def pump(self, seconds: float, watching: Iterable[Any] = (), writing: Iterable[Any] = ()) -> None:
        """Answers the relay's events; at most `seconds` for something to happen."""
        select.select([self.relay.event_fd, *watching], list(writing), [], seconds)
        for event in self.relay.events():
            if event[0] == "open":
                self.openings.append((event[1], event[2]))
            elif event[0] == "dump":
                self._dumps[event[1]] = event[2]
            else:
                self.log.append(event)
        while self.openings and not self.hold_openings:
            self._open(*self.openings.pop(0))

    def until(self, condition: Callable[[], bool], what: str, *, watching: Iterable[Any] = ()) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self.pump(0.02, watching)

    def rows(self, what: str) -> list[dict[str, Any]]:
        request = self._next
        self._next += 1
        self.relay.dump(request, what)
        deadline = time.monotonic() + PATIENCE_S
        while request not in self._dumps:
            assert time.monotonic() < deadline, "the relay does not answer"
            self.pump(0.1)
        return self._dumps.pop(request)

    def settle(self) -> None:
        """The relay has seen all that was sent before this call, and has done what follows from it."""
        for _ in range(3):
            self.rows("pools")

    # ------------------------------------------------------------ making

    def pool(self, **changed: Any) -> int:
        number = self._next
        self._next += 1
        self.change_pool(number, **changed)
        return number

    def change_pool(self, number: int, **changed: Any) -> None:
        settings: dict[str, Any] = {
            "borrow_timeout": 30.0, "idle_timeout": 300.0, "life": 86400.0, "max_idle": 100, "database": "app",
            "gen": 1,
        }  # fmt: skip
        self.relay.pool(number, 0, **{**settings, **changed})

    def client(self, pool: int, *, told: bytes | None = None, unread: bytes = b"", **changed: Any) -> FakeClient:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        slot = self._next
        self._next += 1
        settings: dict[str, Any] = {"idle_timeout": 1800.0, "life": 86400.0, "cancel_key": os.urandom(4)}
        settings.update(changed)
        made = FakeClient(self, ours, slot, settings["cancel_key"])
        self.clients.append(made)
        self.relay.client(
            theirs.detach(), None, slot=slot, pool_id=pool, endpoint=0,
            parameters=parameters() if told is None else told, unread=unread, **settings,
        )  # fmt: skip
        return made

    def _open(self, pool: int, permit: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        pid = 100_000 + self._next
        self._next += 1
        made = FakeServer(self, ours, pool, pid, os.urandom(4))
        self.servers.append(made)
        self.relay.server(
            theirs.detach(), None, pool_id=pool, permit=permit, backend_pid=pid, cancel_key=made.key,
            parameters=self.reports, unread=self.server_unread,
        )  # fmt: skip

    def server(self, pool: int, nth: int = 0) -> FakeServer:
        """The nth connection the relay opened for this pool; waits for it."""

        def of_pool() -> list[FakeServer]:
            return [s for s in self.servers if s.pool == pool]

        self.until(lambda: len(of_pool()) > nth, f"connection {nth} of pool {pool}")
        return of_pool()[nth]

    def warm(self, pool: int) -> FakeServer:
        """A pool's first connection, open and idle."""
        self.relay.want(pool)
        server = self.server(pool)
        server.becomes("idle")
        return server

    def opened(self, pool: int) -> int:
        return sum(s.pool == pool for s in self.servers)

    def happened(self, name: str) -> list[tuple[Any, ...]]:
        self.settle()
        with contextlib.suppress(BlockingIOError):
            self.pump(0)
        return [event for event in self.log if event[0] == name]
