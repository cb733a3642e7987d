"""FakeClient talks to the proxy, FakeServer plays the database: PostgreSQL by hand, blocking, with timeouts.

    with FakeServer(script) as server, FakeClient(proxy.host, proxy.port).login() as client:
        client.send(parse("select 1"), bind(), execute(), sync())
        client.expect("ParseComplete", "BindComplete", "DataRow", "CommandComplete", "ReadyForQuery")

Names of `messages` may be imported from here.
"""

import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from tests.harness.messages import *  # noqa: F403 - the vocabulary of this module's users
from tests.harness.messages import (
    FROM_CLIENT,
    FROM_SERVER,
    GSSENC_REQUEST,
    SSL_REQUEST,
    Message,
    authentication_ok,
    backend_key_data,
    cstr,
    message,
    parameter_status,
    query,
    ready,
    startup,
)
from tests.harness.scram import ScramClient


class Peer:
    """One side of a connection. Reads raise TimeoutError after `timeout` seconds, EOFError at the end of the stream."""

    names = FROM_SERVER

    def __init__(self, sock: socket.socket, timeout: float = 5.0) -> None:
        self.sock, self.pending = sock, b""
        sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *parts: bytes) -> None:
        self.sock.sendall(b"".join(parts))

    def read_exactly(self, n: int) -> bytes:
        while len(self.pending) < n:
            got = self.sock.recv(65536)
            if not got:
                raise EOFError(f"stream ended, {n} bytes wanted, {len(self.pending)} here: {self.pending!r}")
            self.pending += got
        out, self.pending = self.pending[:n], self.pending[n:]
        return out

    def read_startup(self) -> Message:
        """An untyped packet: startup, SSLRequest, CancelRequest; the body begins with the code."""
        (size,) = struct.unpack("!i", self.read_exactly(4))
        return Message("", "Startup", self.read_exactly(size - 4))

    def read(self) -> Message:
        head = self.read_exactly(5)
        kind, (size,) = chr(head[0]), struct.unpack("!i", head[1:])
        if kind not in self.names or size < 4:
            raise AssertionError(f"not a message: {head!r} {self.pending[:80]!r}")
        return Message(kind, self.names[kind], self.read_exactly(size - 4))

    def expect(self, *names: str) -> list[Message]:
        """Reads as many messages as names are given and asserts that they are these."""
        got: list[Message] = []
        for name in names:
            got.append(self.read())
            assert got[-1].name == name, f"wanted {names}, got {[(m.name, m.body) for m in got]}"
        return got

    def read_until(self, name: str) -> list[Message]:
        got = [self.read()]
        while got[-1].name != name:
            got.append(self.read())
        return got

    def at_end(self) -> bool:
        """Waits for the end of the stream; False when a byte comes instead. A reset counts as an end."""
        if self.pending:
            return False
        try:
            self.pending = self.sock.recv(65536)
        except ConnectionError:
            return True
        return not self.pending

    def silent_for(self, seconds: float) -> bool:
        """True when nothing arrives for `seconds` (and the stream stays open)."""
        if self.pending:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self.pending = self.sock.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)
        return False

    def reset(self) -> None:
        """Closes with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FakeClient(Peer):
    """A client that sends just what it is told; `login()` is there for those whose subject begins afterwards."""

    def __init__(self, host: str, port: int, timeout: float = 5.0) -> None:
        """`host` may be the path of a Unix socket."""
        sock = _unix(host, timeout) if host.startswith("/") else socket.create_connection((host, port), timeout)
        super().__init__(sock, timeout)
        self.parameters: dict[str, str] = {}
        self.pid, self.key = 0, b""

    def start_tls(
        self, context: ssl.SSLContext | None = None, *, direct: bool = False, name: str = "localhost"
    ) -> Self:
        """SSLRequest (or not, with `direct`) and the handshake; trusts anybody unless given a context."""
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if direct:
            context.set_alpn_protocols(["postgresql"])
        else:
            self.send(SSL_REQUEST)
            reply = self.read_exactly(1)
            assert reply == b"S", f"SSLRequest answered with {reply!r}"
        self.sock = context.wrap_socket(self.sock, server_hostname=name)
        return self

    def login(self, user: str = "app", password: str = "apppw", database: str = "test", **more: str) -> Self:
        """Startup to the first ReadyForQuery; keeps parameters and key. A refusal is a ConnectionRefusedError."""
        self.send(startup(user, database, more))
        while True:
            m = self._read_login()
            if m.name == "Authentication":
                self._authenticate(m, user, password)
            elif m.name == "ParameterStatus":
                name, value = ([*m.strings, ""])[:2]
                self.parameters[name] = value
            elif m.name == "BackendKeyData":
                self.pid, self.key = struct.unpack_from("!i", m.body)[0], m.body[4:]
            elif m.name == "ReadyForQuery":
                return self

    def _read_login(self) -> Message:
        m = self.read()
        if m.name == "ErrorResponse":
            self.close()
            raise ConnectionRefusedError(f"{m.fields['C']} {m.fields['M']}")
        return m

    def _authenticate(self, request: Message, user: str, password: str) -> None:
        (code,) = struct.unpack_from("!i", request.body)
        if code == 3:
            self.send(message("p", cstr(password)))
        elif code == 5:
            inner = hashlib.md5((password + user).encode()).hexdigest()
            self.send(message("p", cstr("md5" + hashlib.md5(inner.encode() + request.body[4:8]).hexdigest())))
        elif code == 10:
            scram = ScramClient(password)
            first = scram.first()
            self.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first))
            challenge = self._read_login()
            self.send(message("p", scram.final(challenge.body[4:])))
            scram.check(self._read_login().body[4:])
        elif code != 0:
            raise AssertionError(f"authentication request {code} is not for FakeClient")

    def ask(self, sql: str) -> list[Message]:
        """A simple query and all its replies, ReadyForQuery included."""
        self.send(query(sql))
        return self.read_until("ReadyForQuery")


class ServerConnection(Peer):
    """What FakeServer hands to its script for each connection."""

    names = FROM_CLIENT

    def accept_login(self, *, pid: int = 4711, key: bytes = b"\x01\x02\x03\x04", **parameters: str) -> Message:
        """Answers SSLRequest with N, takes the startup packet, lets the client in without a password."""
        first = self.read_startup()
        while first.body[:4] in (SSL_REQUEST[4:], GSSENC_REQUEST[4:]):
            self.send(b"N")
            first = self.read_startup()
        defaults = {"server_version": "15.0", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        told = b"".join(parameter_status(k, v) for k, v in {**defaults, **parameters}.items())
        self.send(authentication_ok(), told, backend_key_data(pid, key), ready())
        return first


class FakeServer:
    """Listens on loopback, runs `script(connection)` in a thread per connection; a script's error fails the test."""

    def __init__(self, script: Callable[[ServerConnection], None], timeout: float = 5.0) -> None:
        self._script, self._timeout = script, timeout
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self.accepted = 0
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._open: list[ServerConnection] = []
        self._main = threading.Thread(target=self._accept, name="FakeServer", daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            connection = ServerConnection(sock, self._timeout)
            self._open.append(connection)
            thread = threading.Thread(target=self._run, args=(connection,), name="FakeServer connection", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: ServerConnection) -> None:
        try:
            self._script(connection)
        except (EOFError, ConnectionError):
            pass  # the peer left: the test says whether that was right
        except BaseException as e:  # noqa: BLE001 - raised again in the test's own thread
            self.errors.append(e)
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._main.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with _ignore_closed():
                connection.sock.shutdown(socket.SHUT_RDWR)
        self._main.join(self._timeout)
        for thread in self._threads:
            thread.join(self._timeout)
        if self.errors and kind is None:
            raise self.errors[0]


def _unix(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock


@contextmanager
def _ignore_closed() -> Iterator[None]:
    try:
        yield
    except OSError:
        pass
