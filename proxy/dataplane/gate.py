"""The doors: a `Hall` is one proxy (its credentials, TLS and limits), a `Gate` one of its endpoints (its listeners).

A new snapshot replaces what a hall knows; gates that did not change are not touched, and logins under way end with what
they began with. What a login asks on its way in is answered here. Belongs to the front thread.
"""

import asyncio
import logging
import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from proxy.dataplane.family import Admitted, Family, family_of
from proxy.dataplane.listening import EXHAUSTED
from proxy.dataplane.login import Login
from proxy.dataplane.pools import Pool, PoolKey
from proxy.errors import Draining, NoReadOnlyTarget, NoReadWriteTarget, ProxyError, ServerBusy, TooManyClients
from proxy.exchange import CancelRequest
from proxy.model import Credential, Endpoint, Proxy, Target, TargetRole
from proxy.net._tls import ServerContext

if TYPE_CHECKING:
    from proxy.dataplane.doorman import Doorman

log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN = 64  # then others get their turn
_EXHAUSTED_PAUSE_S = 0.25


class Hall:
    """One proxy: what all its gates share."""

    __slots__ = ("_loop", "_timer", "credentials", "family", "half_open", "proxy", "tls")

    def __init__(self, loop: asyncio.AbstractEventLoop, proxy: Proxy, tls: ServerContext | None) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.half_open: dict[Login, None] = {}  # in order of arrival, which is the order of expiry
        self.renew(proxy, tls)

    def renew(self, proxy: Proxy, tls: ServerContext | None) -> None:
        self.proxy = proxy
        self.tls = tls
        self.family: Family = family_of(proxy)
        self.credentials: dict[str, Credential] = {each.username: each for each in proxy.credentials}

    def expect(self, login: Login) -> None:
        """A login begins. One timer watches all of them: it is set to the oldest and looks again when it fires."""
        timeout = self.proxy.login_timeout
        login.expires = self._loop.time() + timeout
        self.half_open[login] = None
        if self._timer is None:
            self._timer = self._loop.call_later(timeout, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        for login in list(self.half_open):
            if login.expires > now:
                self._timer = self._loop.call_later(login.expires - now, self._expire)
                return
            login.timed_out()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class GateKey(NamedTuple):
    """What makes a listening socket another one."""

    host: str
    port: int
    both_families: bool  # [::] takes IPv4 as well, unless another endpoint has that port there


class Gate:
    """One endpoint of a hall."""

    __slots__ = ("_loop", "_reading", "_resume", "doorman", "endpoint", "hall", "key", "local", "name", "socks")

    def __init__(
        self, doorman: "Doorman", hall: Hall, endpoint: Endpoint, key: "GateKey", socks: list[socket.socket]
    ) -> None:
        self.doorman = doorman
        self.hall = hall
        self.endpoint = endpoint
        self.key = key
        self.name = endpoint.name
        self.local = endpoint.host.startswith("/")
        self.socks = socks
        self._loop = doorman.front.loop
        self._reading = False
        self._resume: asyncio.TimerHandle | None = None

    def serve(self, hall: Hall, endpoint: Endpoint) -> None:
        """The same socket under a new snapshot."""
        self.hall = hall
        self.endpoint = endpoint
        self.name = endpoint.name

    # ------------------------------------------------------------ accepting

    def open(self) -> None:
        if not self._reading:
            self._reading = True
            for sock in self.socks:
                self.doorman.watch.add(sock.fileno(), partial(self._accept, sock))

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            for sock in self.socks:
                self.doorman.watch.remove(sock.fileno())

    def close(self) -> None:
        self._pause()
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        for sock in self.socks:
            sock.close()
        self.socks = []

    def _accept(self, listener: socket.socket) -> None:
        doorman = self.doorman
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                # the descriptor alone: a socket object would cost more than the system call
                fd, address = listener._accept()  # type: ignore[attr-defined]
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._exhausted(error)
                    return
                continue  # the client left before we came (ECONNABORTED), or its network did
            os.set_blocking(fd, False)
            self.count("client_connections_received")
            self.count("client_connections")
            if fd >= doorman.descriptor_ceiling or len(self.hall.half_open) >= self.hall.proxy.max_half_open_logins:
                self._turn_away(fd)
                continue
            self.count("client_connections_in_setup")
            login = Login(self, fd, address)
            self.hall.expect(login)
            login.begin()
            login.ready()  # its first words are often here already, and save a turn of the loop

    def _exhausted(self, error: OSError) -> None:
        """Not a busy loop: who waits in the backlog can wait a little longer (edge case 98)."""
        log.warning("cannot accept clients for now: %s", error.strerror, extra={"endpoint": self.name})
        self._pause()
        self._resume = self._loop.call_later(_EXHAUSTED_PAUSE_S, self.open)

    def _turn_away(self, fd: int) -> None:
        self.count("refused")
        try:
            os.read(fd, 16_384)  # closing with unread bytes would be a reset, which overtakes the error
        except OSError:
            pass
        try:
            os.write(fd, self.hall.family.error(None, ServerBusy()))
        except OSError:
            pass
        os.close(fd)
        self.count("client_connections", -1)
        self.count("client_connections_closed")

    # ------------------------------------------------------------ what a login asks

    def count(self, field: str, n: int = 1) -> None:
        self.doorman.count(self.endpoint.slot, field, n)

    def refusal(self) -> ProxyError | None:
        """Why nobody can be let in now, whoever it is."""
        if self.doorman.draining:
            return Draining()
        limit = self.hall.proxy.max_client_connections
        read = self.doorman.front.segment.read
        if sum(read("endpoint", each.slot, "client_connections") for each in self.hall.proxy.endpoints) > limit:
            return TooManyClients(limit)
        return None

    def pool(self, admitted: Admitted, credential: Credential) -> Pool:
        proxy = self.hall.proxy
        target = self._target(proxy)
        key = PoolKey(proxy.name, target.slot, admitted.database, admitted.user, admitted.settings)
        return self.doorman.front.pools.get(key, proxy, target, credential)

    def _target(self, proxy: Proxy) -> Target:
        role = self.endpoint.target_role
        candidates = [each for each in proxy.target_group.targets if each.role is role]
        if not candidates:
            raise NoReadWriteTarget if role is TargetRole.READ_WRITE else NoReadOnlyTarget
        if len(candidates) == 1:
            return candidates[0]
        # least clients of this worker; the first of equals would get all the clients of a quiet proxy
        load = self.doorman.clients_of_target
        least = min(load.get(each.slot, 0) for each in candidates)
        return random.choice([each for each in candidates if load.get(each.slot, 0) == least])

    def settled(self, login: Login) -> None:
        """No longer half open; may be said more than once."""
        if login.hall.half_open.pop(login, login) is None:
            self.count("client_connections_in_setup", -1)

    def closed(self) -> None:
        """A login ended without becoming a client."""
        self.count("client_connections", -1)
        self.count("client_connections_closed")

    def cancel(self, request: CancelRequest) -> None:
        self.count("cancels_received")
        self.doorman.cancel(request)
