"""The frontend engine understands bytes however they are cut, passes none it was not given; a violation is final.

Input: a byte of session facts (standard_conforming_strings, ASCII-safe encoding), then what the client says.
"""

from proxy.pgsql._frontend import FrontendDoor
from tests.fuzz import corpus
from tests.fuzz import mutate as mutators
from tests.harness import messages as m
from tests.harness.delivery import Run, boundaries, cut, play


def seeds() -> list[bytes]:
    known = [*corpus.conversations(), *corpus.files("pgsql/bad/frontend")]
    return [bytes([facts]) + one for one in known for facts in (0, 1, 2)]


mutate = mutators.behind(mutators.typed)


def door(facts: int) -> FrontendDoor:
    return FrontendDoor(std_strings=not facts & 1, ascii_safe=not facts & 2)


def said_of(facts: int, pieces: list[bytes]) -> tuple[list[Run], int, int]:
    made = door(facts)
    runs = [run for run in play(made, pieces) if run.n]
    fault, kept = made.fault, made.kept
    if fault:
        for more in (b"", m.query("select 1"), m.sync() * 3, b"\xff" * 9):
            assert made.feed(more) == [], "goes on after a violation"
            assert made.fault == fault
    return runs, int(fault), 0 if fault else kept


def check(data: bytes) -> None:
    facts, said = (data[0] if data else 0), data[1:]
    rng = mutators.of(data)
    expected = said_of(facts, [said] if said else [])
    deliveries = [cut(said, [at + by for at in boundaries(said)]) for by in (-1, 1, 5)]
    deliveries.append(mutators.cuts(rng, said))
    if len(said) < 2000:
        deliveries.append([said[i : i + 1] for i in range(len(said))])
    for pieces in deliveries:
        found = said_of(facts, pieces)
        assert found == expected, f"cut as {[len(piece) for piece in pieces][:20]}: {found} instead of {expected}"
