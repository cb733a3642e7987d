"""JSON messages, with descriptors, over a SOCK_SEQPACKET socketpair: how the processes of one proxy talk to each
other.

A message is a dictionary and at most one object passed beside it. What does not fit a packet travels in a
sealed memfd whose descriptor is passed (SCM_RIGHTS): no size limit that traffic could reach, and the reader can
neither block nor see it change. Both ends are of one user and one program; still nothing here trusts a length.

`Channel` attaches one end to an asyncio loop. It never waits for its peer: what the peer does not collect is
kept up to a bound, then the oldest is dropped, because a hung peer must not fill our memory. Knows nothing of
what the messages mean.
"""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

Message = dict[str, Any]

PACKET_BYTES = 32 * 1024  # larger bodies go into a memfd: well below what a socket buffer holds
BODY_BYTES = 256 * 1024 * 1024
QUEUE_MESSAGES = 1000
READS_PER_TURN = 64

_INT_BYTES = array.array("i").itemsize
_F_ADD_SEALS = 1033
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # seal, shrink, grow, write


def pair() -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    return one, other


def sealed(name: str, data: bytes) -> int:
    """A memfd with these bytes, never to change again. The caller closes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unsealed(fd: int) -> bytes:
    """All bytes of a memfd, wherever its position is."""
    size = os.fstat(fd).st_size
    if size > BODY_BYTES:
        raise ValueError(f"{size} bytes in a message")
    parts, at = [], 0
    while at < size:
        part = os.pread(fd, size - at, at)
        if not part:
            raise ValueError("a message shorter than its size")
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def send(sock: socket.socket, message: Message, fd: int | None = None) -> None:
    """Sends at once or raises BlockingIOError. `fd` is passed along and stays the caller's."""
    body = orjson.dumps(message)
    if len(body) <= PACKET_BYTES:
        _send(sock, b"J" + body, [] if fd is None else [fd])
        return
    large = sealed("message", body)
    try:
        _send(sock, b"L", [large] if fd is None else [large, fd])
    finally:
        os.close(large)


def _send(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[Message, int | None]:
    """The next message and the descriptor it brought (the caller's now). BlockingIOError: none; EOFError: no peer."""
    # not socket.recv_fds: that of Python 3.11 ignores its flags, and the descriptors would lack close-on-exec
    data, rights, flags, _ = sock.recvmsg(PACKET_BYTES + 1, socket.CMSG_SPACE(2 * _INT_BYTES), socket.MSG_CMSG_CLOEXEC)
    fds = [fd for _, _, each in rights for fd in array.array("i", each[: len(each) - len(each) % _INT_BYTES])]
    try:
        if not data:
            raise EOFError
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ValueError("a packet larger than agreed")
        if data[:1] == b"L":
            if not fds:
                raise ValueError("a message without its body")
            body = unsealed(fds[0])
            os.close(fds.pop(0))
        else:
            body = data[1:]
        message = orjson.loads(body)
        if not isinstance(message, dict):
            raise ValueError("a message that is no dictionary")
        return message, fds.pop(0) if fds else None
    finally:
        for fd in fds:
            os.close(fd)


def close_fd(fd: int | None) -> None:
    """A descriptor that came, or did not come, with a message."""
    if fd is not None:
        with contextlib.suppress(OSError):
            os.close(fd)


class Channel:
    """One end of a pair on the running loop. `on_message(message, fd)` owns the descriptor; `on_end()` comes once."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message, int | None], None],
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Message, int | None]] = deque()
        self._open = True
        self.dropped = 0
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Takes `fd` over and closes it when it has been sent."""
        if not self._open:
            close_fd(fd)
            return
        if len(self._queue) >= QUEUE_MESSAGES:
            self.dropped += 1
            close_fd(self._queue.popleft()[1])
        self._queue.append((message, fd))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._queue:
            message, fd = self._queue[0]
            try:
                send(self._sock, message, fd)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:  # the peer's end is closed
                self._end()
                return
            self._queue.popleft()
            close_fd(fd)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        for _ in range(READS_PER_TURN):
            if not self._open:
                return
            try:
                message, fd = receive(self._sock)
            except (BlockingIOError, InterruptedError):
                return
            except ValueError:  # a packet we cannot read concerns nobody else
                continue
            except (EOFError, OSError):
                self._end()
                return
            self._on_message(message, fd)

    def _end(self) -> None:
        if self._open:
            self.close()
            if self._on_end is not None:
                self._on_end()

    def close(self) -> None:
        """Detaches from the loop. The socket stays the caller's."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        while self._queue:
            close_fd(self._queue.popleft()[1])
