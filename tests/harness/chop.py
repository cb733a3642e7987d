"""ChopProxy: a TCP proxy inside the test that cuts, delays, stalls and resets: client to us, or us to the database.

    with ChopProxy(pg.host, pg.port) as chop:
        chop.to_client.chunk = 1            # one byte at a time
        chop.to_client.cut_after = 100      # reset both ends after so many more bytes
        chop.to_server.stall()              # let nothing through until go()

Runs one thread with a selector; rules may be changed at any time from the test's thread.
"""

import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Self

_TICK_S = 0.005


@dataclass
class Rules:
    """What happens to one direction; both directions of every connection start with all of it off."""

    chunk: int = 65536  # most bytes per send
    delay_s: float = 0.0  # before each send
    cut_after: int | None = None  # bytes still let through; then RST to both ends
    passed: int = 0  # bytes let through so far, all connections together
    _open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def stall(self) -> None:
        self._open.clear()

    def go(self) -> None:
        self._open.set()

    @property
    def stalled(self) -> bool:
        return not self._open.is_set()


class _Flow:
    """Bytes of one direction of one connection."""

    def __init__(self, source: socket.socket, sink: socket.socket, rules: Rules) -> None:
        self.source, self.sink, self.rules = source, sink, rules
        self.held = b""
        self.due = 0.0
        self.ended = False

    def step(self, now: float) -> bool:
        """Moves what may move; False when the connection is to be reset."""
        if self.rules.stalled:
            return True
        if not self.ended and len(self.held) < 65536:
            try:
                got = self.source.recv(65536)
                self.ended = not got
                self.held += got
            except BlockingIOError:
                pass
            except OSError:
                return False
        if self.held and self.due == 0.0:
            self.due = now + self.rules.delay_s
        if self.held and now >= self.due:
            return self._send()
        if self.ended and not self.held:
            try:
                self.sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        return True

    def _send(self) -> bool:
        rules = self.rules
        left = rules.cut_after  # once: a test may set it while these bytes are on their way, and means the next ones
        n = min(len(self.held), rules.chunk, *([] if left is None else [left]))
        if n <= 0:
            return False
        sent = 0
        rules.passed += n  # before they can arrive: who has read them must find them counted
        try:
            sent = self.sink.send(self.held[:n])
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            rules.passed -= n - sent
        self.held = self.held[sent:]
        self.due = 0.0
        if left is not None:
            rules.cut_after = left - sent
            return left > sent
        return True


class ChopProxy:
    """See the module. `accepted` counts connections; `refuse` makes it reset new ones at once."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.host, self.port = self._listener.getsockname()[:2]
        self.to_server, self.to_client = Rules(), Rules()
        self.accepted, self.refuse = 0, False
        self._pairs: list[tuple[_Flow, _Flow]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ChopProxy", daemon=True)

    def reset_all(self) -> int:
        """RST to both ends of every connection; how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(pair)
        return len(pairs)

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._pairs)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)
        self._listener.close()
        self.reset_all()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._accept()
            with self._lock:
                pairs = list(self._pairs)
            now = time.monotonic()
            for pair in pairs:
                alive = pair[0].step(now) and pair[1].step(now)
                finished = all(flow.ended and not flow.held for flow in pair)
                if not alive or finished:
                    with self._lock:
                        if pair in self._pairs:
                            self._pairs.remove(pair)
                    _reset(pair) if not alive else _close(pair)
            self._wait(pairs)

    def _wait(self, pairs: list[tuple[_Flow, _Flow]]) -> None:
        """Until something is readable, or a tick: rules change from another thread, and delays come due."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            busy = False
            for flow in (f for pair in pairs for f in pair):
                busy = busy or (bool(flow.held) and not flow.rules.stalled and flow.rules.delay_s == 0)
                if not flow.ended and not flow.rules.stalled and flow.source.fileno() >= 0 and len(flow.held) < 65536:
                    selector.register(flow.source, selectors.EVENT_READ)
            selector.select(0 if busy else _TICK_S)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        self.accepted += 1
        try:
            if self.refuse:
                raise ConnectionRefusedError
            server = socket.create_connection(self._target, 5)
        except OSError:
            _linger_zero(client)
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.append((_Flow(client, server, self.to_server), _Flow(server, client, self.to_client)))


def _linger_zero(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _reset(pair: tuple[_Flow, _Flow]) -> None:
    for flow in pair:
        if flow.source.fileno() >= 0:
            _linger_zero(flow.source)
    _close(pair)


def _close(pair: tuple[_Flow, _Flow]) -> None:
    for flow in pair:
        flow.source.close()
