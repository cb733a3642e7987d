"""Opens connections to databases: resolve, dial, encrypt, log in, hand over to the relay. One task per opening.

The relay asks ("open", with a permit already taken) and is always answered, with a connection or with a failure: a
task that is cancelled answers, too, so no permit is lost. When to try again after a failure is the relay's decision.
Cancel requests are dialled here as well, to the very address of the connection they mean. Belongs to the front thread.
"""

import asyncio
import ipaddress
import logging
import socket
from collections import OrderedDict
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.dataplane.beginning import of_init_query
from proxy.dataplane.listening import keepalive, peer_name
from proxy.dataplane.pools import Pool, Welcome
from proxy.errors import DatabaseError, ProtocolViolation
from proxy.exchange import PeerClosed, StartTls
from proxy.model import ServerTls, SslMode, Target
from proxy.net._tls import ClientContext, TlsError, TlsSession
from proxy.pgsql.authclient import Encryption, ServerReady, ServerRefused, TlsRefused, UnsupportedMethod, log_in
from proxy.pgsql.exchange import Line
from proxy.pgsql.messages import SSL_REQUEST, cancel_request, error_response, parameter_status
from proxy.pgsql.scram import ScramError
from proxy.reasons import ConnectFailure

if TYPE_CHECKING:
    from proxy.dataplane.front import Front

log = logging.getLogger(__name__)

_RECEIVE = 16_384  # bytes
_LIMITS_FRESH_S = 60.0  # the database's max_connections is asked for again by the first login after this long
_MAX_CANCELS = (
    16  # cancel connections at once: a storm of them must not cost the queries their descriptors (edge case 56)
)
_REMEMBERED = 20_000  # addresses of open connections, for cancelling; more than there are permits

_ATTEMPTS: dict[SslMode, tuple[Encryption, ...]] = {
    SslMode.DISABLE: (Encryption.NONE,),
    SslMode.ALLOW: (Encryption.NONE, Encryption.DEMAND),
    SslMode.PREFER: (Encryption.OFFER, Encryption.NONE),
    SslMode.REQUIRE: (Encryption.DEMAND,),
    SslMode.VERIFY_CA: (Encryption.DEMAND,),
    SslMode.VERIFY_FULL: (Encryption.DEMAND,),
}

# what may go wrong with a server, short of a bug of ours
_FAILURES = (OSError, ProtocolViolation, PeerClosed, ScramError, ServerRefused, TlsError, TlsRefused, UnsupportedMethod)


class Address(NamedTuple):
    family: int
    sockaddr: Any


class Wire(NamedTuple):
    """A connection to a server, before and after TLS."""

    sock: socket.socket
    address: Address
    line: Line
    tls: TlsSession | None


def attempts(tls: ServerTls, target: Target) -> tuple[Encryption, ...]:
    """libpq's modes as a sequence of attempts; Unix sockets are never encrypted."""
    if target.host.startswith("/"):
        return (Encryption.NONE,)
    if tls.sslnegotiation == "direct":
        return (Encryption.DIRECT,)
    return _ATTEMPTS[tls.sslmode]


def worth_another(failure: BaseException, tried: Encryption, encrypted: bool) -> bool:
    """Is the next attempt of `allow` or `prefer` justified? Where only the host-based rules or TLS itself can have
    been the cause.
    """
    if isinstance(failure, ServerRefused):
        return failure.fields.sqlstate == "28000" and (encrypted or tried is Encryption.NONE)
    return isinstance(failure, TlsError)


class Connector:
    def __init__(self, front: "Front") -> None:
        self.front = front
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._contexts: dict[ServerTls, ClientContext] = {}
        self._cancels = asyncio.Semaphore(_MAX_CANCELS)
        self._addresses: OrderedDict[tuple[int, bytes], tuple[Address, bool]] = OrderedDict()
        self._asked: dict[int, float] = {}  # target slot: when its limits were last asked for

    # ------------------------------------------------------------ tasks

    def open(self, pool: Pool, permit: int) -> None:
        if self._stopped:
            self.front.relay.server_failed(pool.id, permit, ConnectFailure.CONNECT_TEMPORARY, b"")
            return
        pool.opening += 1
        self._start(self._open(pool, permit))

    def cancel(self, server_id: int, target: Target, tls: ServerTls, limit_s: float, pid: int, key: bytes) -> None:
        self._start(self._cancel(server_id, target, tls, limit_s, pid, key))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.front.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def contexts(self, wanted: set[ServerTls]) -> dict[ServerTls, ClientContext]:
        """Contexts for these settings, made or kept; files that cannot be read are a ValueError in words."""
        made: dict[ServerTls, ClientContext] = {}
        for tls in wanted:
            known = self._contexts.get(tls)
            if known is not None or tls.sslmode is SslMode.DISABLE:
                if known is not None:
                    made[tls] = known
                continue
            try:
                made[tls] = ClientContext(
                    tls.sslmode.value, tls.ca_file, tls.cert_file, tls.key_file, alpn=("postgresql",)
                )
            except TlsError as error:
                raise ValueError(str(error)) from error
        return made

    def renew(self, contexts: dict[ServerTls, ClientContext]) -> None:
        self._contexts = contexts

    # ------------------------------------------------------------ opening a connection

    async def _open(self, pool: Pool, permit: int) -> None:
        front = self.front
        group = pool.proxy.target_group
        front.count(pool.target.slot, "database_connection_requests")
        try:
            async with asyncio.timeout(group.connect_timeout):
                wire, ready = await self._log_in(pool)
        except (*_FAILURES, TimeoutError) as failure:
            self._failed(pool, permit, failure)
        except BaseException:  # cancelled, or a bug: the permit must not be lost over it
            front.relay.server_failed(pool.id, permit, ConnectFailure.CONNECT_TEMPORARY, b"")
            raise
        else:
            self._opened(pool, permit, wire, ready)
        finally:
            pool.opening -= 1
            front.pools.give_back(pool)

    async def _log_in(self, pool: Pool) -> tuple[Wire, ServerReady]:
        group = pool.proxy.target_group
        remaining = attempts(group.tls, pool.target)
        while True:
            encryption, remaining = remaining[0], remaining[1:]
            wire = await self._dial(pool.target, group.connect_timeout)
            try:
                tls, ready = await self._converse(pool, wire, encryption)
                return wire._replace(tls=tls), ready
            except BaseException as failure:
                wire.sock.close()
                if remaining and worth_another(failure, encryption, wire.line.encrypted):
                    log.debug("trying again with other encryption: %s", failure)
                    continue
                raise

    async def _dial(self, target: Target, limit_s: float) -> Wire:
        """The first address that answers, each with its fair part of the time."""
        addresses = await self._resolve(target)
        failure: Exception | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                if address.family != socket.AF_UNIX:
                    keepalive(sock)
                async with asyncio.timeout(limit_s / left if left > 1 else None):
                    await self.front.loop.sock_connect(sock, address.sockaddr)
                return Wire(sock, address, Line(), None)
            except (OSError, TimeoutError) as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError(f"no address for {target.host}")

    async def _resolve(self, target: Target) -> list[Address]:
        if target.host.startswith("/"):
            return [Address(socket.AF_UNIX, f"{target.host}/.s.PGSQL.{target.port}")]
        try:
            literal = ipaddress.ip_address(target.host)
        except ValueError:
            found = await self.front.loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            return [Address(family, sockaddr) for family, _, _, _, sockaddr in dict.fromkeys(found)]
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        return [Address(family, (target.host, target.port))]

    async def _converse(self, pool: Pool, wire: Wire, encryption: Encryption) -> tuple[TlsSession | None, ServerReady]:
        front = self.front
        loop = front.loop
        sock, line = wire.sock, wire.line
        now = loop.time()
        slot = pool.target.slot
        ask = now - self._asked.get(slot, -_LIMITS_FRESH_S) >= _LIMITS_FRESH_S
        if ask:
            self._asked[slot] = now
        conversation = log_in(
            line,
            user=pool.key.user,
            database=pool.key.database,
            password=pool.credential.password,
            settings=pool.key.settings,
            encryption=encryption,
            init_query=pool.proxy.target_group.init_query,
            ask_limits=ask,
        )
        tls: TlsSession | None = None
        received = b""
        starting = True
        try:
            while True:
                said = next(conversation) if starting else conversation.send(received)
                starting = False
                if isinstance(said, StartTls):
                    front.count(slot, "database_connection_requests_with_tls")
                    tls = await self._handshake(wire, pool)
                    received = b""
                    continue
                if said:
                    if tls is not None:
                        tls.write(said)
                        said = tls.take()
                    await loop.sock_sendall(sock, said)
                received = await self._receive(sock, tls)
        except StopIteration as end:
            ready: ServerReady = end.value
            return tls, ready
        except BaseException:
            if ask:
                self._asked.pop(slot, None)  # the question was not answered
            raise

    async def _receive(self, sock: socket.socket, tls: TlsSession | None) -> bytes:
        loop = self.front.loop
        if tls is None:
            return await loop.sock_recv(sock, _RECEIVE)
        while not (text := tls.read()):
            data = await loop.sock_recv(sock, _RECEIVE)
            if not data:
                return b""
            tls.feed(data)
        return text

    async def _handshake(self, wire: Wire, pool: Pool) -> TlsSession:
        return await self._encrypt(wire.sock, wire.line, pool.target, pool.proxy.target_group.tls)

    async def _encrypt(self, sock: socket.socket, line: Line, target: Target, settings: ServerTls) -> TlsSession:
        loop = self.front.loop
        tls = self._contexts[settings].session(target.host)
        while True:
            finished = tls.handshake()
            out = tls.take()
            if out:
                await loop.sock_sendall(sock, out)
            if finished:
                break
            data = await loop.sock_recv(sock, _RECEIVE)
            if not data:
                raise PeerClosed
            tls.feed(data)
        line.encrypted = True
        line.binding = tls.peer_certificate_hash()
        line.alpn = tls.alpn
        return tls

    # ------------------------------------------------------------ outcomes

    def _opened(self, pool: Pool, permit: int, wire: Wire, ready: ServerReady) -> None:
        front = self.front
        slot = pool.target.slot
        front.count(slot, "database_connections_setup_succeeded")
        here = peer_name(wire.sock.getsockname())
        remembered = ready.backend_pid, ready.cancel_key
        self._addresses[remembered] = wire.address, wire.tls is not None
        initial, _ = of_init_query(pool.proxy.target_group.init_query, ready.parameters)
        settings = b"".join(parameter_status(name, value) for name, value in sorted(initial.items()))
        if len(self._addresses) > _REMEMBERED:
            self._addresses.popitem(last=False)
        pool.servers += 1
        front.relay.server(
            wire.sock.detach(),
            wire.tls,
            pool_id=pool.id,
            permit=permit,
            backend_pid=ready.backend_pid,
            cancel_key=ready.cancel_key,
            parameters=ready.parameters,
            settings=settings,
            unread=wire.line.take(),
        )
        for notice in ready.notices:
            log.info("The database said at login: %s", notice)
        log.info(
            "A TCP connection was established from the proxy at %s to the database at %s.",
            here,
            peer_name(wire.address.sockaddr),
        )
        pool.opened(Welcome.of(ready, settings))
        if ready.limits is not None:
            front.limits_known(slot, *ready.limits)

    def _failed(self, pool: Pool, permit: int, failure: Exception) -> None:
        front = self.front
        front.count(pool.target.slot, "database_connections_setup_failed")
        kind, error = ConnectFailure.CONNECT_TEMPORARY, b""
        if isinstance(failure, ServerRefused) and failure.permanent:
            kind, error = ConnectFailure.CONNECT_PERMANENT, failure.error
        elif isinstance(failure, (TlsRefused, UnsupportedMethod)):
            kind, error = ConnectFailure.CONNECT_PERMANENT, error_response(DatabaseError(str(failure)))
        log.warning(
            'A connection to the database at %s:%s for user "%s", database "%s" failed: %s',
            pool.target.host,
            pool.target.port,
            pool.key.user,
            pool.key.database,
            _words(failure),
        )
        front.relay.server_failed(pool.id, permit, kind, error)
        if error:
            # who misses a database creates it and comes again at once
            stands = not (isinstance(failure, ServerRefused) and failure.fields.sqlstate == "3D000")
            front.pools.refuse(pool, error, front.loop.time(), stands=stands)
        elif pool.waiters:
            front.relay.want(pool.id)

    # ------------------------------------------------------------ cancelling

    async def _cancel(
        self, server_id: int, target: Target, tls: ServerTls, limit_s: float, pid: int, key: bytes
    ) -> None:
        """Delivered when the server has closed: PostgreSQL signals before it does."""
        try:
            async with self._cancels, asyncio.timeout(limit_s):
                await self._deliver_cancel(target, tls, limit_s, pid, key)
        except (*_FAILURES, TimeoutError) as failure:
            log.info("A cancel request did not reach the database at %s: %s", target.host, _words(failure))
        finally:
            self.front.relay.cancel_done(server_id)

    async def _deliver_cancel(self, target: Target, settings: ServerTls, limit_s: float, pid: int, key: bytes) -> None:
        loop = self.front.loop
        address, encrypted = self._addresses.get((pid, key), (None, False))
        if address is None:
            wire = await self._dial(target, limit_s)
        else:
            sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            wire = Wire(sock, address, Line(), None)
        with wire.sock as sock:
            if address is not None:
                await loop.sock_connect(sock, address.sockaddr)
            message = cancel_request(pid, key)
            if encrypted:
                if settings.sslnegotiation != "direct":
                    await loop.sock_sendall(sock, SSL_REQUEST)
                    if await loop.sock_recv(sock, 1) != b"S":
                        raise TlsRefused("the server has turned TLS off")
                tls = await self._encrypt(sock, wire.line, target, settings)
                tls.write(message)
                message = tls.take()
            await loop.sock_sendall(sock, message)
            while await loop.sock_recv(sock, _RECEIVE):
                pass


def _words(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return "timed out"
    if isinstance(failure, PeerClosed):
        return "the server closed the connection during the login"
    return str(failure) or type(failure).__name__
