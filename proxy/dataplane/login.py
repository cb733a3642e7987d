"""One client from accept to hand-over: drives startup and authentication over its socket, with or without TLS.

Callbacks on the loop, no task and no future: a login is three or four short turns, and their cost is measured. Two
phases, each with its own timer and its own error (edge case 14): *login* (login_timeout, counted as half open), then,
where the pool has no welcome yet, *waiting* (connection_borrow_timeout). Every way out is `_close` or `_leave`, once:
what was taken (the place among the half-open logins, the waiter's place, the slot, the gauges) is given back there.
Belongs to the front thread.
"""

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from proxy.dataplane.family import Admitted, Settings, Welcome
from proxy.dataplane.listening import peer_name
from proxy.dataplane.pools import Pool
from proxy.dataplane.watch import READ, WRITE
from proxy.errors import BorrowTimeout, LoginTimeout, NoCredentials, ProxyError, TooManyClients, UnknownError
from proxy.exchange import CancelRequest, Hangup, PeerClosed, StartTls
from proxy.model import ClientTlsMode, Credential
from proxy.net._tls import TlsClosed, TlsError, TlsSession

if TYPE_CHECKING:
    from proxy.dataplane.gate import Gate

log = logging.getLogger(__name__)

_RECEIVE = 4096  # bytes; nothing in a login is larger, but for a token
_MAX_EARLY = 65_536  # bytes a client may send ahead of the end of its login before we stop reading
_AUTHENTICATION = "28"  # class of SQLSTATEs that count as a failed login, not as a refusal


class Login:
    """Hashable by identity: it is a key in the tables of half-open logins and of waiters."""

    __slots__ = (
        "_admitted",
        "_authenticated",
        "_conversation",
        "_credential",
        "_deadline",
        "_fd",
        "_handshaking",
        "_leaving",
        "_out",
        "_pool",
        "_reading",
        "_slot",
        "_tried",
        "_user",
        "_watch",
        "address",
        "expires",
        "gate",
        "hall",
        "line",
        "tls",
    )

    def __init__(self, gate: "Gate", fd: int, address: object) -> None:
        self.gate = gate
        self.hall = gate.hall  # a reload may give the gate another one; this login is counted here
        self.address = address
        self.line = self.hall.family.line()
        self.tls: TlsSession | None = None
        self.expires = 0.0  # of the login phase; the doorman's
        self._watch = gate.doorman.watch
        self._fd = fd  # -1: closed or handed over
        self._user = ""  # that it says it is
        self._credential: Credential  # of that user
        self._admitted: Admitted | None = None
        self._slot = 0  # its number, if it has one before it is let in
        self._pool: Pool | None = None  # among whose waiters we are
        self._deadline: asyncio.TimerHandle | None = None
        self._out = b""  # what the socket did not take
        self._tried = False  # its own settings, by a server
        self._leaving = False  # goes (handed over, or closed) as soon as `_out` is empty
        self._handshaking = False
        self._authenticated: tuple[bytes, Pool, Welcome] | None = None
        # resumed with the peer's next bytes; end of stream closes it instead, nobody is left to be told
        self._conversation = self.hall.family.talk(self)
        self._reading = True
        self._watch.add(fd, self.ready)

    def begin(self) -> None:
        """To its first wait; some families speak first."""
        self._step(None)

    # ------------------------------------------------------------ the conversation

    @property
    def tls_mode(self) -> ClientTlsMode:
        return self.hall.proxy.tls.mode

    @property
    def local(self) -> bool:
        return self.gate.local

    def pid(self) -> int:
        doorman = self.gate.doorman
        self._slot = self._slot or doorman.slots.take()
        return doorman.pid(self._slot) if self._slot else 0

    def expected(self, user: str) -> Credential:
        refusal = self.gate.refusal()
        if refusal is not None:
            raise refusal
        credential = self.hall.credentials.get(user)
        if credential is None:
            raise NoCredentials(user)
        self._user = user
        self._credential = credential
        return credential

    def _step(self, received: bytes | None) -> None:
        """The peer's next bytes (b"" = end of stream) into the conversation, and what it says out to the peer. None
        starts it.
        """
        try:
            said = next(self._conversation) if received is None else self._conversation.send(received)
            if isinstance(said, StartTls):
                self._start_tls(said)
            elif said:
                self._send(said)
        except StopIteration as end:
            if isinstance(end.value, CancelRequest):
                self.gate.cancel(end.value)
                self._hang_up()
            else:
                self._admit(end.value)
        except ProxyError as error:
            self.refuse(error)
        except (PeerClosed, Hangup):
            self._close()
        except Exception:
            log.exception("a login failed unexpectedly", extra={"endpoint": self.gate.name})
            self.refuse(UnknownError())

    # ------------------------------------------------------------ bytes in

    def ready(self) -> None:
        """Called by the watch. What cannot be done yet is tried and says so: cheaper than keeping count of what can."""
        if self._out:
            self._drain()
        elif not self._reading:
            self._close()  # nothing was asked for: it is the peer's end that woke us
        if not self._reading or self._fd < 0:
            return
        try:
            data = os.read(self._fd, _RECEIVE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close()
        elif self.tls is not None:
            self._decrypt(self.tls, data)
        elif self._pool is not None or self._leaving:
            self._early(data)
        else:
            self._step(data)

    def _early(self, data: bytes) -> None:
        """A client that is authenticated and not yet answered sends its first requests."""
        self.line.data += data
        if len(self.line.data) > _MAX_EARLY:
            self._stop_reading()

    def _decrypt(self, tls: TlsSession, data: bytes) -> None:
        try:
            tls.feed(data)
            if self._handshaking and not self._shake(tls):
                return
            # each step may end the login, and then the session belongs to somebody else
            while self._reading and not self._leaving and (text := tls.read()):
                if self._pool is not None:
                    self._early(text)
                else:
                    self._step(text)
        except TlsClosed:
            self._close()
        except TlsError as error:
            self._tls_failed(error)

    # ------------------------------------------------------------ TLS

    def _start_tls(self, wanted: StartTls) -> None:
        context = self.hall.tls
        assert context is not None  # the conversation was told that there is TLS
        if wanted.answer:
            self._send(wanted.answer)
        self.tls = tls = context.session()
        self._handshaking = True
        hello = self.line.take()
        if hello:
            try:
                tls.feed(hello)
                self._shake(tls)
            except TlsError as error:
                self._tls_failed(error)

    def _shake(self, tls: TlsSession) -> bool:
        finished = tls.handshake()
        answer = tls.take()
        if answer:
            self._write(answer)
        if finished:
            self._handshaking = False
            line = self.line
            line.encrypted = True
            line.binding = tls.own_certificate_hash()
            line.alpn = tls.alpn
            self._step(b"")
        return finished

    def _tls_failed(self, error: TlsError) -> None:
        if self._fd < 0:
            return
        gate = self.gate
        gate.count("client_connections_setup_failed_auth")
        words = "TLS with %s failed: %s"
        gate.doorman.front.journal.note(logging.INFO, words, peer_name(self.address), error, endpoint=gate.name)
        if self.tls is not None:
            alert = self.tls.take()
            if alert:
                self._write(alert)
        self._close()

    # ------------------------------------------------------------ bytes out

    def _send(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.write(data)
            data = self.tls.take()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            return
        if self._out:
            self._out += data
            return
        try:
            sent = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._close()
            return
        if sent < len(data):
            self._out = data[sent:]
            self._interest()

    def _drain(self) -> None:
        try:
            self._out = self._out[os.write(self._fd, self._out) :]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close()
            return
        if not self._out:
            self._interest()
            if self._leaving:
                self._leave()

    def _interest(self) -> None:
        self._watch.change(self._fd, (READ if self._reading else 0) | (WRITE if self._out else 0))

    # ------------------------------------------------------------ admitted

    def _admit(self, admitted: Admitted) -> None:
        """Authenticated. The login phase is over, and with it its timer."""
        gate = self.gate
        gate.settled(self)
        self._admitted = admitted
        try:
            # not before: a stranger makes no pools, and a pool nobody is counted in may be given to others meanwhile
            pool = gate.pool(admitted, self._credential)
        except ProxyError as error:
            self.refuse(error)
            return
        if pool.welcome is not None:
            self.welcome(pool.welcome, pool)
            return
        refused = gate.doorman.front.pools.standing_refusal(pool.key, gate.doorman.front.loop.time())
        if refused:
            gate.doorman.front.pools.give_back(pool)
            self.refused(refused)
            return
        self._pool = pool
        pool.waiters[self] = None
        timeout = self.hall.proxy.target_group.connection_borrow_timeout
        self._deadline = gate.doorman.front.loop.call_later(timeout, self._borrow_timeout)
        gate.doorman.front.relay.want(pool.id)

    def _has_it_tried(self, pool: Pool, settings: Settings) -> None:
        """Nobody has brought these settings yet: what a server makes of them comes back as a welcome or a refusal."""
        gate = self.gate
        if self._deadline is None:
            timeout = self.hall.proxy.target_group.connection_borrow_timeout
            self._deadline = gate.doorman.front.loop.call_later(timeout, self._borrow_timeout)
        self._pool = pool
        self._tried = True
        gate.doorman.front.beginnings.ask(pool, settings, self, gate.endpoint.slot)

    def _borrow_timeout(self) -> None:
        self.refuse(BorrowTimeout())

    def welcome(self, welcome: Welcome, pool: Pool) -> None:
        """All that stands between authentication and the first query, in one write."""
        beginnings = self.gate.doorman.front.beginnings
        admitted = self._admitted
        assert admitted is not None
        settings = admitted.own
        if settings and not self._tried:
            found = beginnings.known(pool, settings)
            if found is None:
                self._has_it_tried(pool, settings)
                return
            welcome = found
        pid = self.pid()
        if not pid:
            self.refuse(TooManyClients(self.hall.proxy.max_client_connections))
            return
        key = os.urandom(admitted.key_size)
        self._authenticated = key, pool, welcome
        pool.clients += 1
        self._forget_pool()
        self._leaving = True
        try:
            self._send(self.hall.family.greet(self.line, admitted, welcome, pid, key))
        except TlsError as error:
            self._tls_failed(error)
            return
        if not self._out and self._fd >= 0:
            self._leave()

    def refused(self, error: bytes) -> None:
        """By the database, whose own words these are."""
        gate = self.gate
        gate.count("client_connections_setup_failed_auth")
        self._farewell(self.hall.family.relayed(self.line, error))

    # ------------------------------------------------------------ the three ends

    def _leave(self) -> None:
        """Everything is said: to the relay, or, after an error, to nowhere."""
        if self._authenticated is None:
            self._close()
            return
        fd = self._detach()
        if fd >= 0:
            assert self._admitted is not None
            key, pool, welcome = self._authenticated
            slot, self._slot = self._slot, 0
            self.gate.doorman.hand_over(self.gate, self, self._admitted, fd, slot, key, pool, welcome)

    def refuse(self, error: ProxyError) -> None:
        if self._fd < 0 or self._leaving:
            return
        gate = self.gate
        failed = error.sqlstate.startswith(_AUTHENTICATION)
        gate.count("client_connections_setup_failed_auth" if failed else "refused")
        user = self._user
        gate.doorman.front.journal.note(
            logging.INFO,
            "The login of %s%s was refused: %s %s",
            peer_name(self.address),
            f' as "{user}"' if user else "",
            error.sqlstate,
            error,
            endpoint=gate.name,
        )
        self._farewell(self.hall.family.error(self.line, error))

    def _farewell(self, error: bytes) -> None:
        if self._handshaking:
            self._close()  # neither plain nor encrypted bytes would be understood
            return
        self._leaving = True
        self._reading = False
        try:
            if self.tls is not None:
                self.tls.write(self._unsaid() + error)
                self.tls.shutdown()
                self._write(self.tls.take())
            else:
                self._write(self._unsaid() + error)
        except TlsError:
            self._close()
            return
        if not self._out:
            self._close()

    def _unsaid(self) -> bytes:
        """What stands in front of an error, if it has not gone out."""
        return self.line.flush() + (self._admitted.last_words if self._admitted is not None else b"")

    def _hang_up(self) -> None:
        """A cancel request is answered by the end of the stream; under TLS by its orderly end, or libpq reports an
        error.
        """
        if self.tls is not None:
            self.tls.shutdown()
            self._write(self.tls.take())
        self._close()

    def timed_out(self) -> None:
        """By the doorman: the login phase took too long. A probe that never said a word is not told anything."""
        if self._out or self._handshaking or self._leaving or not (self.line.data or self._user or self.tls):
            self._close()
        else:
            self.refuse(LoginTimeout())

    def abort(self) -> None:
        """At once, without a word: the worker stops."""
        self._close()

    def _forget_pool(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.leave(self)
            self.gate.doorman.front.pools.give_back(pool)

    def _stop_reading(self) -> None:
        if self._reading and self._fd >= 0:
            self._reading = False
            self._interest()

    def _detach(self) -> int:
        """The descriptor, watched by nobody; -1 if it has gone before."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._watch.remove(fd)
            self._out = b""
            self.gate.settled(self)
            self._forget_pool()
        return fd

    def _close(self) -> None:
        fd = self._detach()
        if fd < 0:
            return
        doorman = self.gate.doorman
        if self._slot:
            doorman.slots.give(self._slot)
        if self._authenticated is not None:
            _, pool, _ = self._authenticated
            pool.clients -= 1
            doorman.front.pools.give_back(pool)
        self._conversation.close()
        self.tls = None
        os.close(fd)
        self.gate.closed()
