"""Any first bytes end as a startup, a cancel request or a typed refusal, the same however they are cut.

Input: a byte of circumstances (TLS mode, Unix socket, ALPN), then what the client says.
"""

from functools import partial
from typing import Any

from proxy.errors import ProxyError
from proxy.exchange import CancelRequest, Exchange, Hangup, PeerClosed
from proxy.model import ClientTlsMode
from proxy.pgsql.exchange import Line
from proxy.pgsql.messages import GSSENC_REQUEST_CODE, MAX_CANCEL_KEY, SSL_REQUEST_CODE
from proxy.pgsql.startup import Startup, startup
from tests.fuzz import corpus
from tests.fuzz import mutate as mutators
from tests.harness import messages as m
from tests.unit.pgsql.drive import Outcome, Tls, play, same

MODES = tuple(ClientTlsMode)
RESERVED = {"", "user", "database", "options", "replication"}


def seeds() -> list[bytes]:
    options = m.startup(more={"options": r"-c a=b --c-d=e\ f -F -B 7", "application_name": "x", "DateStyle": "ISO"})
    known = [
        m.startup(),
        options,
        m.startup(version=m.PROTOCOL_3_2, more={"_pq_.x": "1", "replication": "false"}),
        m.SSL_REQUEST + m.startup(),
        m.SSL_REQUEST + m.GSSENC_REQUEST + m.startup(),
        m.GSSENC_REQUEST + m.SSL_REQUEST + options,
        m.cancel_request(7, b"keyk"),
        m.cancel_request(7, b"k" * 32),
        b"\x16" + m.startup(),
        *corpus.files("pgsql/startup"),
        *corpus.files("pgsql/bad/startup"),
    ]
    return [bytes([mode]) + one for one in known for mode in (0, 1, 2, 10)]


mutate = mutators.behind(mutators.untyped)


def turns(data: bytes) -> list[bytes]:
    """Cut where an honest client waits for an answer: what comes with an encryption request is another case."""
    if data[:1] == b"\x16":
        return [data[:1], data[1:]] if data[1:] else [data]
    found = []
    for piece in mutators.split(data, 0):
        if len(piece) == 8 and int.from_bytes(piece[4:]) in (SSL_REQUEST_CODE, GSSENC_REQUEST_CODE):
            found.append(piece)
        else:
            return [*found, data[sum(map(len, found)) :]]
    return found


def _talk(mode: ClientTlsMode, local: bool, line: Line) -> Exchange[Any]:
    return startup(line, mode, local=local)


def _sound(outcome: Outcome, mode: ClientTlsMode, local: bool) -> None:
    if outcome.error is not None and not isinstance(outcome.error, ProxyError | PeerClosed | Hangup):
        raise outcome.error
    assert len(outcome.sent) < 20_000
    match outcome.result:
        case None:
            assert outcome.error is not None
        case CancelRequest(pid, key):
            assert 0 <= pid < 1 << 32
            assert 1 <= len(key) <= MAX_CANCEL_KEY
        case Startup() as found:
            assert found.user
            assert found.database
            assert found.minor in (0, 2)
            names = [name for name, _ in found.settings]
            assert names == sorted(set(names)), "a setting twice"
            assert all(name == name.lower() and name not in RESERVED and name[:5] != "_pq_." for name in names), names
            words = [found.user, found.database, *(word for pair in found.settings for word in pair)]
            assert not any("\0" in word for word in words), "a NUL would begin a parameter of its own at the server"
            assert mode is not ClientTlsMode.REQUIRE or local or outcome.tls_at is not None
        case other:
            raise AssertionError(other)


def check(data: bytes) -> None:
    if not data:
        return
    mode, local = MODES[data[0] % len(MODES)], bool(data[0] & 8)
    tls = Tls(alpn="postgresql" if data[0] & 16 == 0 else None)
    talk, said, rng = partial(_talk, mode, local), data[1:], mutators.of(data)
    _sound(play(talk, [said] if said else [], tls), mode, local)
    spoken = turns(said)
    expected = play(talk, spoken, tls)
    _sound(expected, mode, local)
    for pieces in (
        [bytes([b]) for turn in spoken for b in turn],
        [p for turn in spoken for p in mutators.cuts(rng, turn)],
    ):
        outcome = play(talk, pieces, tls)
        assert same(outcome, expected), f"cut as {[len(p) for p in pieces][:20]}: {outcome} instead of {expected}"
