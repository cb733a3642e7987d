"""A relay with models of PostgreSQL behind it and scripted clients in front: all in one thread but for the relay.

Pool 1 is honest: its servers answer as PostgreSQL does, and its honest clients compare every byte with a model of their
own, to which nobody else talks. In pool 2 servers lie. Both pools share four permits; hostile clients are in both.
"""

import random
from typing import Self

from proxy.reasons import ConnectFailure
from tests.fuzz import mutate as mutators
from tests.fuzz.postgres_model import Model
from tests.harness import messages as m
from tests.harness.relaybox import FakeServer, Peer, RelayBox, parameters

HONEST, HOSTILE = 1, 2
PERMITS = 4
ASYNC = m.notice("to whom it may concern " + "." * 60)  # of any server, at any time


class ModelServer:
    """A fake server driven by a model; the hostile kind mutates what it says."""

    def __init__(self, peer: FakeServer, lies: random.Random | None) -> None:
        self.peer, self.lies = peer, lies
        self.model, self.out = Model(), b""

    def read(self, messages: int) -> None:
        """Takes what has come and works on so many messages."""
        self.model.feed(taken(self.peer))
        for _ in range(messages):
            answer = self.model.step()
            if answer is None:
                break
            if self.lies is not None and self.lies.random() < 0.5:
                answer = mutators.typed(self.lies, answer, [answer, m.answer("lie")], mutators.BACKEND_KINDS)
            self.out += answer

    def write(self, most: int) -> None:
        self.out = sent(self.peer, self.out, most)
        if (self.model.closed and not self.out) or self.peer.ended:
            self.peer.close()


class ScriptedClient:
    """One client. `expected`: what a server of its own would have answered to all it asked."""

    def __init__(self, peer: Peer, number: int, pool: int, *, honest: bool, base: dict[str, str]) -> None:
        """`base`: the settings it began with."""
        self.peer, self.number, self.pool, self.honest = peer, number, pool, honest
        self.own, self.out, self.expected, self.received = Model(base=base), b"", b"", b""
        self.asked = 0
        self.loose = False  # was cancelled or killed: its answers are no longer those of a server of its own
        self.named: list[str] = []

    def ask(self, what: int) -> None:
        tag = f"c{self.number}r{self.asked}"
        self.asked += 1
        request = self._request(what, tag)
        self.out += request
        self.own.feed(request)
        self.expected += self.own.run()

    def _request(self, what: int, tag: str) -> bytes:
        select = f"select '{tag}' 3"
        batch = m.parse(select) + m.bind() + m.describe() + m.execute() + m.sync()
        old = self.named[what % len(self.named)] if self.named else "none"
        name = ("my.x", "my.y", "application_name")[self.asked % 3]
        shown = m.query("show my.x; show my.y; show application_name")
        match what % 32:
            case 0:
                return m.query(select)
            case 1:
                return m.query("begin")
            case 2:
                return m.query("commit")
            case 3:
                return m.query("rollback") + m.query(select)
            case 4:
                return m.query(f"{select}; error '{tag}'; {select}")
            case 5:
                return batch
            case 6:
                return batch * 3 + m.query(select)
            case 7 if (
                self.own.status != "E"
            ):  # or else what is pipelined behind the failed Parse fails with another SQLSTATE
                self.named.append(f"s{self.asked}")
                return m.parse(select, self.named[-1]) + m.bind(statement=self.named[-1]) + m.execute() + m.sync()
            case 8 | 9:
                return m.bind(statement=old) + m.describe("S", old) + m.execute() + m.sync()
            case 10:
                if self.named:
                    self.named.remove(old)
                return m.close("S", old) + m.sync()
            case 11:
                return m.query("copy in") + m.copy_data(tag.encode()) * 3 + m.copy_done()
            case 12:
                return m.query("copy in") + m.copy_data(tag.encode()) + m.copy_fail("no") + m.query(select)
            case 13:
                return m.query(f"copy out '{tag}' 20")
            case 14:
                return m.query(f"select '{tag}' 9000")
            case 15:
                return m.message("F", b"\0" * 10)
            case 16:
                return m.parse(select) + m.bind() + m.execute(limit=2) + m.flush() + m.execute() + m.sync()
            case 17:
                return m.query("begin") + m.query(f"set {name} = '{tag}'") + m.query("commit") + shown
            case 18:
                return m.parse("bad") + m.bind() + m.execute() + m.sync() + batch
            case 19:
                return m.parse(f"select '{tag}'", "") + m.sync() + m.bind() + m.execute() + m.sync()
            case 20:
                return m.query(f"notice '{tag}'") + m.query("")
            case 22:
                return m.query(f"set {name} = '{tag}'") + shown
            case 23:
                return m.parse(f"set {name} = '{tag}'") + m.bind() + m.execute() + m.sync() + shown
            case 24:
                return m.query(f"set {name} = '{tag}'; error '{tag}'") + shown
            case 25:
                undone = m.query(f"set {name} = '{tag}'; savepoint a; set my.x = '{tag}b'") + m.query("rollback to a")
                return m.query("begin") + undone + m.query("commit") + shown
            case 26:
                return m.query(f"select set_config('{name}', '{tag}' || '', false)") + shown
            case 27:
                return m.query(f"reset {name}") + shown
            case 28:
                return m.query(("reset all", "discard all", "deallocate all")[self.asked % 3]) + shown
            case 29:
                return m.query(f"set local {name} = '{tag}'; show {name}; show my.x") + shown
            case 30:
                return m.parse("rollback") + m.bind() + m.execute() + m.sync() + batch + shown
            case 31:
                failing = m.parse(f"set {name} = '{tag}'") + m.bind() + m.execute() + m.parse("bad") + m.sync()
                return failing + shown
            case _:
                return m.parse(f"copy out '{tag}' 2") + m.bind() + m.execute() + m.sync()

    def lie(self, rng: random.Random) -> None:
        """Whatever, and the mutation of a request."""
        request = self._request(rng.randrange(100), f"c{self.number}r{self.asked}")
        self.out += mutators.typed(rng, request, [request, m.terminate(), m.copy_data(b"x"), m.sync()])

    def write(self, most: int) -> None:
        self.out = sent(self.peer, self.out, most)

    def read(self) -> None:
        self.received += taken(self.peer)

    @property
    def done(self) -> bool:
        return self.peer.closed or self.peer.ended or self.loose or len(self.answers) >= len(self.expected)

    @property
    def answers(self) -> bytes:
        """What it received, without what concerns nobody in particular (nor the first part of that)."""
        pieces = mutators.split(self.received, 1)
        return b"".join(piece for piece in pieces if not (len(piece) > 5 and ASYNC.startswith(piece)))

    def judge(self, *, complete: bool) -> None:
        """Nobody else's bytes; and if its server was honest, exactly what a server of its own would have said."""
        if not self.honest or self.pool != HONEST:
            return
        for piece in mutators.split(self.received, 1):
            for tag in tags(piece):
                assert tag == self.number, f"client {self.number} sees {piece[:200]!r}"
        if self.loose:
            return
        got, wanted = self.answers, self.expected
        if got == wanted[: len(got)]:
            if complete and not self.peer.closed and not self.peer.ended:
                assert len(got) == len(wanted), (
                    f"client {self.number} lacks {wanted[len(got) :][:200]!r} after {got[-200:]!r}"
                )
            return
        # the last words of a closed connection, between two messages
        at = 0
        for piece in mutators.split(wanted, 1):
            if got[at : at + len(piece)] != piece:
                break
            at += len(piece)
        if ASYNC.startswith(got[at:]) and not (complete and not self.peer.ended):
            return  # a few bytes of it
        last = mutators.split(got[at:], 1)
        assert self.peer.ended, f"client {self.number} got {got[at:][:300]!r}, not {wanted[at:][:300]!r}"
        assert len(last) == 1, f"client {self.number} ended with {got[at:][:300]!r}, not {wanted[at:][:300]!r}"
        assert last[0][:6] == b"E" + last[0][1:5] + b"S", last
        assert int.from_bytes(last[0][1:5]) == len(last[0]) - 1, f"half a message as the last words: {last}"
        assert b"FATAL" in last[0], last


def tags(piece: bytes) -> list[int]:
    """The clients that are named in a message."""
    found = []
    for part in piece[5:].split(b"c")[1:]:
        number, r, _ = part.partition(b"r")
        if r and number.isdigit() and len(number) < 6:
            found.append(int(number))
    return found


def taken(peer: Peer) -> bytes:
    """Everything that is there now; notes the end."""
    found = []
    while not peer.closed and not peer.ended:
        try:
            found.append(peer.sock.recv(1 << 16))
        except BlockingIOError:
            break
        except ConnectionError:
            found.append(b"")
        peer.ended = not found[-1]
    return b"".join(found)


def sent(peer: Peer, data: bytes, most: int) -> bytes:
    """Sends up to `most` bytes if the socket takes them; what is left."""
    if peer.closed or not data:
        return b"" if peer.closed else data
    try:
        return data[peer.sock.send(data[:most]) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""


class Arena(RelayBox):
    def __init__(self, lies: random.Random) -> None:
        super().__init__(limit=PERMITS)
        self.reports = parameters(application_name="")
        self.lies = lies
        self.models: list[ModelServer] = []
        self.scripted: list[ScriptedClient] = []
        self.failures: list[ConnectFailure] = []  # of the next openings
        self.cancels_done = 0

    def __enter__(self) -> Self:
        super().__enter__()
        for pool in (HONEST, HOSTILE):
            self.change_pool(pool)
        self._next = 10
        return self

    def _open(self, pool: int, permit: int) -> None:
        if self.failures:
            self.relay.server_failed(pool, permit, int(self.failures.pop()), m.error("28P01", "refused", "FATAL"))
            return
        super()._open(pool, permit)
        self.models.append(ModelServer(self.servers[-1], self.lies if pool == HOSTILE else None))

    def join(self, pool: int, *, honest: bool) -> None:
        number = self._next  # will be its slot
        base = {"my.y": f"c{number}r0"} if number % 2 else {}
        settings = b"".join(m.parameter_status(*item) for item in base.items())
        peer = self.client(pool, told=self.reports, settings=settings)
        assert peer.slot == number
        self.scripted.append(ScriptedClient(peer, number, pool, honest=honest, base=base))

    def events(self) -> None:
        self.pump(0)
        cancels = [event for event in self.log if event[0] == "cancel"]
        for event in cancels[self.cancels_done :]:
            self.relay.cancel_done(event[1])
        self.cancels_done = len(cancels)

    @property
    def open_servers(self) -> list[ModelServer]:
        return [server for server in self.models if not server.peer.closed]

    @property
    def open_clients(self) -> list[ScriptedClient]:
        return [client for client in self.scripted if not client.peer.closed]

    def finish(self) -> None:
        """The hostile leave; then every honest client gets to the end of what it asked."""
        self.failures.clear()
        self.relay.resume()
        for client in self.open_clients:
            client.read()
            if not client.honest or client.pool == HOSTILE:
                client.peer.close()
            else:
                client.ask(3)
        for server in self.open_servers:
            if server.lies is not None:
                server.peer.close()

        def done() -> bool:
            self._turn()
            return all(client.done for client in self.scripted if client.honest and client.pool == HONEST)

        self.until(done, "honest clients to be answered: " + ", ".join(map(self._about, self.open_clients)))
        for client in self.scripted:
            client.judge(complete=True)

    def _about(self, client: ScriptedClient) -> str:
        return f"{client.number}: {len(client.received)} of {len(client.expected)}, {len(client.out)} to send"

    def _turn(self) -> None:
        self.events()
        for client in self.open_clients:
            client.write(1 << 20)
            client.read()
            if client.done and not client.out:
                client.judge(complete=True)
                client.peer.close()
        for server in self.open_servers:
            server.read(1000)
            server.write(1 << 20)
