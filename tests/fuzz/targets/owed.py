"""The queue of replies owed is empty exactly when the server is idle, whatever is sent when, and whatever fails.

Input: one byte per step: the client sends something, the server reads a message, a reply arrives.
"""

from proxy.pgsql._owed import CopyState, OwedDoor, OwedKind, Verdict
from tests.fuzz.mutate import split
from tests.fuzz.postgres_model import Model
from tests.harness import messages as m

K = OwedKind
KINDS = {
    "Q": K.OWED_QUERY, "F": K.OWED_FUNCTION, "S": K.OWED_SYNC, "P": K.OWED_PARSE, "B": K.OWED_BIND,
    "D": K.OWED_DESCRIBE, "E": K.OWED_EXECUTE, "C": K.OWED_CLOSE, "c": K.OWED_COPY_END, "f": K.OWED_COPY_END,
}  # fmt: skip
REQUESTS = (
    m.sync(), m.parse("select 'x' 3"), m.bind(), m.execute(), m.execute(limit=2), m.describe("P"), m.describe("S"),
    m.close("S", "s"), m.query("select 'x'"), m.query("begin"), m.query("rollback"), m.query("error 'x'"),
    m.query("copy in"), m.query("select 'x'; copy in; select 'y'"), m.query("copy out 'x'; set 'y'"),
    m.parse("copy in"), m.parse("bad"),
    m.bind(statement="none"), m.message("F", b"\0" * 10), m.copy_done(), m.copy_fail("no"), m.copy_data(b"x"),
    m.flush(), m.query(""), m.parse("copy out 'x' 2"), m.parse("notice 'x'"),
)  # fmt: skip
READ, ARRIVE, OURS = 0x40, 0x80, 0x20
QUIET = "NSA"


def seeds() -> list[bytes]:
    batch = bytes([1, 2, 5, 3, 0])
    copy = bytes([12, READ, ARRIVE, 21, 21, 19, 0, 8])
    extended_copy = bytes([15, 2, 3, 0, READ, READ, READ, READ, ARRIVE, ARRIVE, ARRIVE, 21, 19, 0])
    return [
        batch, batch * 4, copy, copy[:-3] + b"\x14\0\x08", extended_copy, extended_copy[:-3] + b"\x14\0",
        bytes([16, 2, 3, 8, 0, 8]), bytes([13, READ, ARRIVE, ARRIVE, 19]), bytes(range(26)),
        bytes([step for request in range(26) for step in (request, READ, ARRIVE, ARRIVE)]),
        bytes([1 | OURS, 2, 3, 0, 17, 7 | OURS, 0]),
    ]  # fmt: skip


class Script:
    """A client, the queue and the model of the server, with messages under way between them."""

    def __init__(self) -> None:
        self.door, self.server = OwedDoor(), Model()
        self.sent: list[
            tuple[str, bool, int]
        ] = []  # kind, ours, argument; in the order in which the server handles them
        self.arriving: list[tuple[str, int]] = []  # kind of reply, whose
        self.owners: list[int] = []  # of the request that the server is working on
        self.parses: dict[int, str] = {}
        self.copied = False

    def send(self, request: bytes, ours: bool) -> None:
        kind, door = chr(request[0]), self.door
        if kind in "cdf" and not door.entries and not door.skipping and not door.in_doubt:
            return  # the relay lets no stray end of a COPY through
        self.copied |= b"copy in" in request
        argument = 0
        if kind == "P":
            argument = len(self.sent) + 1
            self.parses[argument] = "open"
        ours = ours and kind in "PCQ" and b"copy" not in request
        self.sent.append((kind, ours, argument))
        if kind in KINDS:
            door.request(KINDS[kind] | (K.OWED_SWALLOW if ours else 0), argument)
        self._lost()
        self.server.feed(request)

    def read(self) -> bool:
        at = self.server.handled
        was_copying = self.server.copying
        answer = self.server.step()
        if answer is None:
            return False
        # what a copy-in still answers belongs to the request that began it
        owner = self.owners[-1] if was_copying else at
        if self.server.copying and not was_copying:
            self.owners.append(at)
        self.arriving += [(chr(piece[0]), owner) for piece in split(answer, 1)]
        return True

    def arrive(self) -> bool:
        if not self.arriving:
            return False
        kind, owner = self.arriving.pop(0)
        doubt = self.door.in_doubt
        verdict = self.door.reply(kind.encode())
        asked, ours, argument = self.sent[owner]
        assert verdict != Verdict.REPLY_VIOLATION, f"{kind} for {asked} is taken for a violation"
        if not doubt and not self.door.in_doubt and kind not in QUIET:
            hidden = ours and not (kind == "E" and asked == "P")
            assert verdict == (Verdict.REPLY_SWALLOW if hidden else Verdict.REPLY_FORWARD), (
                f"{kind} for {asked}, ours: {ours}"
            )
            if kind == "1":
                assert self.door.answered == argument
                assert self.parses.pop(argument) == "open"
        self._lost()
        return True

    def _lost(self) -> None:
        for argument in self.door.lost:
            assert self.parses.pop(argument, "gone") == "open", "lost twice, or lost and answered"

    def safe(self) -> None:
        """Nobody may take the server over while anything of this client is under way."""
        door = self.door
        if door.in_doubt:
            assert self.copied, "in doubt without a COPY"
        elif not door.entries and not door.skipping:
            behind = [kind for kind, _, _ in self.sent[self.server.handled :] if kind not in "cdfH"]
            assert self.server.idle, "called idle in the middle of something"
            assert not behind, f"called idle before {behind} are read"
            assert not [kind for kind, _ in self.arriving if kind not in QUIET], "called idle with answers on their way"

    def settle(self) -> None:
        """All is read and has arrived: now the queue must know exactly."""
        while self.read() or self.arrive():
            self.safe()
        door, server = self.door, self.server
        if door.in_doubt or server.closed:
            return
        assert (not door.entries and not door.skipping) == server.idle, f"{door.entries} {door.skipping} {server}"
        assert door.skipping == server.ignoring
        assert (door.copy == CopyState.COPY_IN) == server.copying
        assert not self.parses or server.copying, f"neither answered nor lost: {self.parses}"


def check(data: bytes) -> None:
    script = Script()
    for step in data[:2000]:
        if step & ARRIVE:
            script.arrive()
        elif step & READ:
            script.read()
        else:
            script.send(REQUESTS[(step & 31) % len(REQUESTS)], bool(step & OURS))
        if script.server.closed:
            break  # it has said why in its last message, which ends the connection
        script.safe()
    script.settle()
    if script.server.copying:
        script.send(m.copy_done(), False)
    script.send(m.sync(), False)
    script.settle()
    assert script.door.in_doubt or script.server.closed or not script.door.entries
