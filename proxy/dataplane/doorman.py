"""Who may come in: opens and closes the gates as snapshots say, gives out client numbers, hands clients to the relay.

A login itself is `login.Login`; what it meets on its way in are `gate.Gate` and `gate.Hall`. Remembers each client in
the relay's hands, by its number, until the relay says that it has gone. Belongs to the front thread.
"""

import logging
import resource
import socket
from typing import TYPE_CHECKING, NamedTuple

from proxy.dataplane.family import Admitted, Welcome
from proxy.dataplane.gate import Gate, GateKey, Hall
from proxy.dataplane.listening import listen_tcp, listen_unix, peer_name
from proxy.dataplane.login import Login
from proxy.dataplane.pools import Pool
from proxy.dataplane.watch import Watch
from proxy.errors import Draining
from proxy.exchange import CancelRequest
from proxy.model import ClientTlsMode, Endpoint, Proxy
from proxy.net._tls import ServerContext, TlsError

if TYPE_CHECKING:
    from proxy.dataplane.front import Front

WORKER_BITS = 7  # of the pid a client is told: slot << 7 | worker
WORKER_MASK = (1 << WORKER_BITS) - 1
MAX_SLOT = (1 << 23) - 1  # so that a pid stays a positive int32
_RESERVED_DESCRIPTORS = 64  # for servers and for ourselves (edge case 98)


class Slots:
    """Client numbers, small ones first; a number is not given out again before it is given back."""

    __slots__ = ("_free", "_next")

    def __init__(self) -> None:
        self._free: list[int] = []
        self._next = 1

    def take(self) -> int:
        """0 if there is none."""
        if self._free:
            return self._free.pop()
        if self._next > MAX_SLOT:
            return 0
        self._next += 1
        return self._next - 1

    def give(self, slot: int) -> None:
        self._free.append(slot)


class Guest(NamedTuple):
    """A client in the relay's hands, as the front remembers it."""

    gate: Gate
    endpoint: int  # slot, under which it was counted
    pool: Pool
    tls: bool


class Doorman:
    def __init__(self, front: "Front") -> None:
        self.front = front
        self.draining = False
        self.watch = Watch(front.loop)
        self.gates: dict[GateKey, Gate] = {}
        self.halls: dict[str, Hall] = {}
        self.guests: dict[int, Guest] = {}  # by slot
        self.clients_of_target: dict[int, int] = {}
        self.slots = Slots()
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # descriptors are given out lowest first, so one above this means that few are left
        self.descriptor_ceiling = soft - min(_RESERVED_DESCRIPTORS, soft // 4)

    # ------------------------------------------------------------ configuration

    async def prepare(self, proxies: tuple[Proxy, ...]) -> "Plan":
        """Everything a new snapshot needs that can fail, and nothing that shows. OSError or ValueError in words."""
        plan = Plan()
        try:
            for proxy in proxies:
                hall = self.halls.get(proxy.name)
                unchanged = hall is not None and hall.proxy.tls == proxy.tls
                plan.contexts[proxy.name] = hall.tls if hall is not None and unchanged else _context(proxy)
                for endpoint in proxy.endpoints:
                    key = _gate_key(endpoint, proxies)
                    if key.host.startswith("/") and self.front.worker != 0:
                        continue  # a Unix socket has one owner; the kernel does not spread its clients
                    plan.wanted[key] = (proxy, endpoint)
                    if key not in self.gates:
                        plan.socks[key] = await self._listen(key)
        except BaseException:
            plan.drop()
            raise
        return plan

    async def _listen(self, key: GateKey) -> list[socket.socket]:
        if key.host.startswith("/"):
            return [listen_unix(key.host)]
        socks: list[socket.socket] = []
        try:
            found = await self.front.loop.getaddrinfo(
                key.host, key.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
            )
            for family, _, _, _, address in dict.fromkeys(found):
                socks.append(listen_tcp(family, address, both_families=key.both_families))
        except OSError as error:
            for sock in socks:
                sock.close()
            raise OSError(error.errno, f"cannot listen on {key.host} port {key.port}: {error.strerror}") from error
        return socks

    def commit(self, proxies: tuple[Proxy, ...], plan: "Plan") -> None:
        loop = self.front.loop
        for proxy in proxies:
            hall = self.halls.get(proxy.name)
            if hall is None:
                self.halls[proxy.name] = Hall(loop, proxy, plan.contexts[proxy.name])
            else:
                hall.renew(proxy, plan.contexts[proxy.name])
        kept = {endpoint.slot for proxy in proxies for endpoint in proxy.endpoints}  # perhaps at another address
        for key, gate in list(self.gates.items()):
            if key not in plan.wanted:
                del self.gates[key]
                gate.close()
                if gate.endpoint.slot not in kept:
                    self.front.relay.endpoint_gone(gate.endpoint.slot)
        for key, (proxy, endpoint) in plan.wanted.items():
            hall = self.halls[proxy.name]
            if key in self.gates:
                self.gates[key].serve(hall, endpoint)
            else:
                self.gates[key] = gate = Gate(self, hall, endpoint, key, plan.socks[key])
                if self.draining:
                    gate.close()  # or clients would hang in a backlog nobody looks at
                else:
                    gate.open()
        for name in self.halls.keys() - {proxy.name for proxy in proxies}:
            self.halls.pop(name).close()

    # ------------------------------------------------------------ drain and stop

    def shut(self) -> None:
        """No more clients: listeners close, so that the kernel refuses or another worker accepts; half-open logins are
        told.
        """
        self.draining = True
        for gate in self.gates.values():
            gate.close()
        for hall in self.halls.values():
            for login in list(hall.half_open):
                login.refuse(Draining())

    async def reopen(self) -> None:
        if not self.draining:
            return
        socks = {key: await self._listen(key) for key in self.gates}
        self.draining = False
        for key, gate in self.gates.items():
            gate.socks = socks[key]
            gate.open()

    def close(self) -> None:
        for gate in self.gates.values():
            gate.close()
        for hall in self.halls.values():
            for login in list(hall.half_open):
                login.abort()
            hall.close()
        for pool in list(self.front.pools):
            for waiter in [*pool.waiters, *(each for askers in pool.askers.values() for each in askers)]:
                waiter.abort()
        self.watch.close()

    # ------------------------------------------------------------ clients in the relay's hands

    def count(self, endpoint: int, field: str, n: int = 1) -> None:
        front = self.front
        front.segment.add(front.worker, "endpoint", endpoint, field, n)

    def pid(self, slot: int) -> int:
        return slot << WORKER_BITS | self.front.worker

    def hand_over(
        self,
        gate: Gate,
        login: Login,
        admitted: Admitted,
        fd: int,
        slot: int,
        key: bytes,
        pool: Pool,
        welcome: Welcome,
    ) -> None:
        proxy = login.hall.proxy
        tls_on = login.tls is not None
        endpoint = gate.endpoint.slot
        unread = login.line.take()
        peer = peer_name(login.address)
        self.guests[slot] = Guest(gate, endpoint, pool, tls_on)
        target = pool.target.slot
        self.clients_of_target[target] = self.clients_of_target.get(target, 0) + 1
        self.front.relay.client(
            fd,
            login.tls,
            slot=slot,
            pool_id=pool.id,
            endpoint=endpoint,
            cancel_key=key,
            parameters=welcome.parameters,
            settings=welcome.settings,
            unread=unread,
            idle_timeout=proxy.idle_client_timeout,
            life=proxy.client_life,
            tls_on=tls_on,
            peer=peer,
            user=printable(admitted.user),
            database=printable(admitted.database),
            application=printable(admitted.application),
            engine=login.hall.family.number,
        )
        self.count(endpoint, "client_connections_setup_succeeded")
        self.count(endpoint, "client_connections_tls" if tls_on else "client_connections_no_tls")
        self.front.journal.note(
            logging.INFO, "A new client connected from %s.", peer, endpoint=gate.name, client=self.pid(slot)
        )

    def client_closed(self, slot: int) -> Guest | None:
        guest = self.guests.pop(slot, None)
        if guest is None:
            self.front.beginnings.client_closed(slot)
            return None
        self.slots.give(slot)
        endpoint = guest.endpoint
        self.count(endpoint, "client_connections", -1)
        self.count(endpoint, "client_connections_closed")
        self.count(endpoint, "client_connections_tls" if guest.tls else "client_connections_no_tls", -1)
        self.clients_of_target[guest.pool.target.slot] -= 1
        guest.pool.clients -= 1
        self.front.pools.give_back(guest.pool)
        return guest

    def cancel(self, request: CancelRequest) -> None:
        """The pid names worker and slot; whether the key is right is for the owner to say."""
        worker, slot = request.pid & WORKER_MASK, request.pid >> WORKER_BITS
        front = self.front
        if not 0 < slot <= MAX_SLOT or worker >= front.segment.workers:
            return
        if worker == front.worker:
            front.relay.cancel(slot, request.key)
        else:
            front.relay.cancel_to(worker, slot, request.key)


class Plan:
    """What `prepare` has made and `commit` will use."""

    __slots__ = ("contexts", "socks", "wanted")

    def __init__(self) -> None:
        self.contexts: dict[str, ServerContext | None] = {}
        self.wanted: dict[GateKey, tuple[Proxy, Endpoint]] = {}
        self.socks: dict[GateKey, list[socket.socket]] = {}

    def drop(self) -> None:
        for socks in self.socks.values():
            for sock in socks:
                sock.close()


def printable(text: str) -> str:
    """Names that are not UTF-8 travel as surrogates inside the front; nobody else need know."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _context(proxy: Proxy) -> ServerContext | None:
    tls = proxy.tls
    if tls.mode is ClientTlsMode.OFF:
        return None
    if tls.cert_file is None or tls.key_file is None:
        raise ValueError(f"proxy {proxy.name}: TLS is on, but there is no certificate or no key")
    try:
        return ServerContext(
            tls.cert_file, tls.key_file, tls.client_ca_file, tls.client_certificates.value, tls.minimum_version
        )
    except TlsError as error:
        raise ValueError(f"proxy {proxy.name}: {error}") from error


def _gate_key(endpoint: Endpoint, proxies: tuple[Proxy, ...]) -> GateKey:
    v4_elsewhere = any(
        other.host == "0.0.0.0" and other.port == endpoint.port for proxy in proxies for other in proxy.endpoints
    )
    return GateKey(endpoint.host, endpoint.port, endpoint.host == "::" and not v4_elsewhere)
