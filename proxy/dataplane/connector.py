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
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from proxy.dataplane.family import Ready, families, family_of
from proxy.dataplane.listening import keepalive, peer_name
from proxy.dataplane.pools import Pool
from proxy.errors import ProtocolViolation
from proxy.exchange import Encryption, Exchange, PeerClosed, StartTls, Stream, TlsRefused, UnsupportedMethod
from proxy.model import Proxy, ServerTls, SslMode, Target
from proxy.net._tls import ClientContext, TlsClosed, TlsError, TlsSession
from proxy.reasons import ConnectFailure

if TYPE_CHECKING:
    from proxy.dataplane.front import Front

log = logging.getLogger(__name__)

T = TypeVar("T")

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

# what may go wrong with any server, short of a bug of ours
_FAILURES = (OSError, ProtocolViolation, PeerClosed, TlsError, TlsRefused, UnsupportedMethod)
Contexts = dict[tuple[ServerTls, tuple[str, ...]], ClientContext]  # and ALPN


class Address(NamedTuple):
    family: int
    sockaddr: Any


class Wire(NamedTuple):
    """A connection to a server, before and after TLS."""

    sock: socket.socket
    address: Address
    line: Stream
    tls: TlsSession | None


def attempts(tls: ServerTls, target: Target) -> tuple[Encryption, ...]:
    """libpq's modes as a sequence of attempts; Unix sockets are never encrypted."""
    if target.host.startswith("/"):
        return (Encryption.NONE,)
    if tls.sslnegotiation == "direct":
        return (Encryption.DIRECT,)
    return _ATTEMPTS[tls.sslmode]


def failures() -> tuple[type[Exception], ...]:
    return (*_FAILURES, TimeoutError, *(each for family in families() for each in family.failures))


class Connector:
    def __init__(self, front: "Front") -> None:
        self.front = front
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._contexts: Contexts = {}
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

    def cancel(self, server_id: int, pool: Pool, pid: int, key: bytes) -> None:
        self._start(self._cancel(server_id, pool, pid, key))

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

    def contexts(self, proxies: Iterable[Proxy]) -> Contexts:
        """Contexts for what these need, made or kept; files that cannot be read are a ValueError in words."""
        made: Contexts = {}
        for proxy in proxies:
            tls, alpn = wanted = proxy.target_group.tls, family_of(proxy).alpn
            known = self._contexts.get(wanted)
            if known is not None or tls.sslmode is SslMode.DISABLE:
                if known is not None:
                    made[wanted] = known
                continue
            try:
                made[wanted] = ClientContext(tls.sslmode.value, tls.ca_file, tls.cert_file, tls.key_file, alpn=alpn)
            except TlsError as error:
                raise ValueError(str(error)) from error
        return made

    def renew(self, contexts: Contexts) -> None:
        self._contexts = contexts

    # ------------------------------------------------------------ opening a connection

    async def _open(self, pool: Pool, permit: int) -> None:
        front = self.front
        group = pool.proxy.target_group
        front.count(pool.target.slot, "database_connection_requests")
        try:
            async with asyncio.timeout(group.connect_timeout):
                wire, ready = await self._log_in(pool)
        except failures() as failure:
            self._failed(pool, permit, failure)
        except BaseException:  # cancelled, or a bug: the permit must not be lost over it
            front.relay.server_failed(pool.id, permit, ConnectFailure.CONNECT_TEMPORARY, b"")
            raise
        else:
            self._opened(pool, permit, wire, ready)
        finally:
            pool.opening -= 1
            front.pools.give_back(pool)

    async def _log_in(self, pool: Pool) -> tuple[Wire, Ready]:
        group = pool.proxy.target_group
        remaining = attempts(group.tls, pool.target)
        while True:
            encryption, remaining = remaining[0], remaining[1:]
            wire = await self._dial(pool, group.connect_timeout)
            try:
                tls, ready = await self._ask(pool, wire, encryption)
                return wire._replace(tls=tls), ready
            except Exception as failure:
                wire.sock.close()
                if remaining and pool.family.other_encryption(failure, encryption, wire.line.encrypted):
                    log.debug("trying again with other encryption: %s", failure)
                    continue
                raise
            except BaseException:
                wire.sock.close()
                raise

    async def _dial(self, pool: Pool, limit_s: float) -> Wire:
        """The first address that answers, each with its fair part of the time."""
        target = pool.target
        addresses = await self._resolve(pool)
        failure: Exception | None = None
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                if address.family != socket.AF_UNIX:
                    keepalive(sock)
                async with asyncio.timeout(limit_s / left if left > 1 else None):
                    await self.front.loop.sock_connect(sock, address.sockaddr)
                return Wire(sock, address, pool.family.line(), None)
            except (OSError, TimeoutError) as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
        raise failure or OSError(f"no address for {target.host}")

    async def _resolve(self, pool: Pool) -> list[Address]:
        target = pool.target
        if target.host.startswith("/"):
            return [Address(socket.AF_UNIX, pool.family.unix_socket(target.host, target.port))]
        try:
            literal = ipaddress.ip_address(target.host)
        except ValueError:
            found = await self.front.loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            return [Address(family, sockaddr) for family, _, _, _, sockaddr in dict.fromkeys(found)]
        family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
        return [Address(family, (target.host, target.port))]

    async def _ask(self, pool: Pool, wire: Wire, encryption: Encryption) -> tuple[TlsSession | None, Ready]:
        """Logs in; now and then it also asks for the server's limits."""
        now = self.front.loop.time()
        slot = pool.target.slot
        ask = now - self._asked.get(slot, -_LIMITS_FRESH_S) >= _LIMITS_FRESH_S
        if ask:
            self._asked[slot] = now
        conversation: Exchange[Ready] = pool.family.log_in(
            wire.line,
            user=pool.key.user,
            database=pool.key.database,
            password=pool.credential.password,
            settings=pool.key.settings,
            encryption=encryption,
            init_query=pool.proxy.target_group.init_query,
            ask_limits=ask,
        )
        try:
            return await self._converse(pool, wire, conversation)
        except BaseException:
            if ask:
                self._asked.pop(slot, None)  # the question was not answered
            raise

    async def _converse(self, pool: Pool, wire: Wire, conversation: Exchange[T]) -> tuple[TlsSession | None, T]:
        loop = self.front.loop
        sock = wire.sock
        tls: TlsSession | None = None
        received = b""
        starting = True
        try:
            while True:
                said = next(conversation) if starting else conversation.send(received)
                starting = False
                if isinstance(said, StartTls):
                    self.front.count(pool.target.slot, "database_connection_requests_with_tls")
                    if said.answer:
                        await loop.sock_sendall(sock, said.answer)
                    tls = await self._encrypt(wire, pool)
                    received = b""
                    continue
                if said:
                    if tls is not None:
                        tls.write(said)
                        said = tls.take()
                    await loop.sock_sendall(sock, said)
                received = await self._receive(sock, tls)
        except StopIteration as end:
            result: T = end.value
            return tls, result

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

    async def _encrypt(self, wire: Wire, pool: Pool) -> TlsSession:
        loop = self.front.loop
        sock, line = wire.sock, wire.line
        tls = self._contexts[pool.proxy.target_group.tls, pool.family.alpn].session(pool.target.host)
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

    def _opened(self, pool: Pool, permit: int, wire: Wire, ready: Ready) -> None:
        front = self.front
        slot = pool.target.slot
        front.count(slot, "database_connections_setup_succeeded")
        here = peer_name(wire.sock.getsockname())
        remembered = ready.backend_pid, ready.cancel_key
        self._addresses[remembered] = wire.address, wire.tls is not None
        welcome = pool.family.welcome(ready, pool.proxy.target_group.init_query)
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
            settings=welcome.settings,
            unread=wire.line.take(),
            engine=pool.family.number,
        )
        for notice in ready.notices:
            log.info("The database said at login: %s", notice)
        log.info(
            "A TCP connection was established from the proxy at %s to the database at %s.",
            here,
            peer_name(wire.address.sockaddr),
        )
        pool.opened(welcome)
        if ready.limits is not None:
            front.limits_known(slot, *ready.limits)

    def _failed(self, pool: Pool, permit: int, failure: Exception) -> None:
        front = self.front
        front.count(pool.target.slot, "database_connections_setup_failed")
        verdict = pool.family.judge(failure)
        kind = ConnectFailure.CONNECT_PERMANENT if verdict.permanent else ConnectFailure.CONNECT_TEMPORARY
        log.warning(
            'A connection to the database at %s:%s for user "%s", database "%s" failed: %s',
            pool.target.host,
            pool.target.port,
            pool.key.user,
            pool.key.database,
            _words(failure),
        )
        front.relay.server_failed(pool.id, permit, kind, verdict.error)
        if verdict.error:
            front.pools.refuse(pool, verdict.error, front.loop.time(), stands=verdict.stands)
        elif pool.waiters:
            front.relay.want(pool.id)

    # ------------------------------------------------------------ cancelling

    async def _cancel(self, server_id: int, pool: Pool, pid: int, key: bytes) -> None:
        limit_s = pool.proxy.target_group.connect_timeout
        try:
            async with self._cancels, asyncio.timeout(limit_s):
                await self._deliver_cancel(pool, limit_s, pid, key)
        except failures() as failure:
            log.info("A cancel request did not reach the database at %s: %s", pool.target.host, _words(failure))
        finally:
            self.front.relay.cancel_done(server_id)

    async def _deliver_cancel(self, pool: Pool, limit_s: float, pid: int, key: bytes) -> None:
        """To the address, and with the encryption, of the connection it means."""
        settings = pool.proxy.target_group.tls
        address, encrypted = self._addresses.get((pid, key), (None, False))
        if address is None:
            wire = await self._dial(pool, limit_s)
        else:
            sock = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            wire = Wire(sock, address, pool.family.line(), None)
        with wire.sock as sock:
            if address is not None:
                await self.front.loop.sock_connect(sock, address.sockaddr)
            encryption = Encryption.NONE
            if encrypted:
                encryption = Encryption.DIRECT if settings.sslnegotiation == "direct" else Encryption.DEMAND
            conversation = pool.family.cancel(
                wire.line,
                user=pool.key.user,
                password=pool.credential.password,
                pid=pid,
                key=key,
                encryption=encryption,
            )
            try:
                await self._converse(pool, wire, conversation)
            except (PeerClosed, TlsClosed, ConnectionResetError):
                pass  # it has heard


def _words(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return "timed out"
    if isinstance(failure, PeerClosed):
        return "the server closed the connection during the login"
    return str(failure) or type(failure).__name__
