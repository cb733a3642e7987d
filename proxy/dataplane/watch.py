"""Which descriptors of half-finished logins are ready: one epoll of our own, seen by the loop as a single descriptor.

A login lives for three or four turns. Registering each with the loop costs a handle, two objects and half a dozen
system calls, most of a login's time outside of cryptography; here it is one call in, one out. Belongs to the front
thread.
"""

import asyncio
import logging
import select
from collections.abc import Callable

log = logging.getLogger(__name__)

READ = select.EPOLLIN
WRITE = select.EPOLLOUT

_EVENTS_PER_TURN = 256


class Watch:
    """Level-triggered: who is not served now is told again. A callback gets no arguments; what is ready it finds out
    itself.
    """

    __slots__ = ("_callbacks", "_epoll", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._turn)

    def __len__(self) -> int:
        return len(self._callbacks)

    def add(self, fd: int, callback: Callable[[], None], events: int = READ) -> None:
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Before the descriptor is closed or given away: its number may mean somebody else a moment later."""
        del self._callbacks[fd]
        self._epoll.unregister(fd)

    def _turn(self) -> None:
        callbacks = self._callbacks
        for fd, _ in self._epoll.poll(0, _EVENTS_PER_TURN):
            # whoever was served before may have closed this one; a new owner of the number just finds nothing to read
            callback = callbacks.get(fd)
            if callback is not None:
                try:
                    callback()
                except Exception:
                    log.exception("a login's turn failed")

    def close(self) -> None:
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
