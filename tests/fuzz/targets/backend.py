"""The backend engine accounts for every byte, cut in any way; its queue only shrinks; no ReadyForQuery is unowed.

Input: a byte that says how many requests, so many bytes of requests, then what the server says.
"""

from proxy._wire import Step
from proxy.pgsql._backend import BackendDoor, BackendFault
from proxy.pgsql._owed import OwedKind
from tests.fuzz import corpus
from tests.fuzz import mutate as mutators
from tests.harness import messages as m
from tests.harness.delivery import boundaries, cut, merge

K = OwedKind
ENDS = (K.OWED_QUERY, K.OWED_FUNCTION, K.OWED_SYNC)  # each with ReadyForQuery
BATCH = bytes([K.OWED_PARSE, K.OWED_BIND, K.OWED_DESCRIBE, K.OWED_EXECUTE, K.OWED_SYNC])


def seeds() -> list[bytes]:
    asked = (
        b"", bytes([K.OWED_QUERY]) * 2, BATCH, BATCH * 3, bytes([K.OWED_FUNCTION, K.OWED_QUERY]),
        bytes([K.OWED_SYNC]) * 20, bytes([K.OWED_QUERY, K.OWED_COPY_END, K.OWED_QUERY]),
        bytes([K.OWED_PARSE | K.OWED_SWALLOW]) + BATCH,
    )  # fmt: skip
    known = [*corpus.answers(), *corpus.files("pgsql/bad/backend"), m.message("G", b"\0\0\0") + m.error() + m.ready()]
    return [bytes([len(requests)]) + requests + said for requests in asked for said in known]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    n = 1 + (data[0] if data else 0)
    head = data[:n]
    if rng.random() < 0.2:
        size = rng.randrange(40)
        head = bytes([size]) + bytes(rng.randrange(10) | rng.choice((0, 0, 0, 0x80, 0x40)) for _ in range(size))
    others = [other[1 + other[0] :] for other in pool if other]
    return head + mutators.typed(rng, data[n:], others, mutators.BACKEND_KINDS)


def answered(requests: bytes, pieces: list[bytes]) -> tuple[object, ...]:
    made = BackendDoor()
    for request in requests:
        made.request(request)
    steps, fed, ready, left = [], 0, 0, len(made.owed)
    may = sum(request & 15 in ENDS for request in requests)
    for piece in pieces:
        fed += len(piece)
        new = made.feed(piece)
        steps += new
        done = sum(step[1] for step in steps)
        assert done <= fed
        assert made.fault or done + made.kept == fed, "a byte was lost"
        assert all(n >= 0 and what in (Step.FORWARD, Step.SWALLOW, Step.VIOLATION) for what, n, *_ in new)
        ready += sum(kind == "Z" and begins and what != Step.VIOLATION for what, _, kind, begins, _ in new)
        assert len(made.owed) <= left, "an answer made the queue longer"
        left = len(made.owed)
        assert ready <= may or made.in_doubt, "a ReadyForQuery nobody was waiting for"
        if made.fault:
            assert made.feed(m.ready()) == [], "goes on after a violation"
            break
    # Z is a fact of its own, and so are all others but where runs were cut
    runs = [run for run in merge(steps) if run.n]
    kept = 0 if made.fault else made.kept
    return (
        runs,
        BackendFault(made.fault),
        made.owed,
        made.skipping,
        made.in_doubt,
        made.tx_status,
        made.fatal,
        made.sqlstate,
        kept,
    )


def check(data: bytes) -> None:
    n = 1 + (data[0] if data else 0)
    requests, said = data[1:n], data[n:]
    expected = answered(requests, [said] if said else [])
    deliveries = [cut(said, [at + by for at in boundaries(said)]) for by in (-1, 1, 5, 200, 257)]
    deliveries.append(mutators.cuts(mutators.of(data), said))
    if len(said) < 2000:
        deliveries.append([said[i : i + 1] for i in range(len(said))])
    for pieces in deliveries:
        found = answered(requests, pieces)
        assert found == expected, f"cut as {[len(piece) for piece in pieces][:20]}: {found} instead of {expected}"
