"""Programs of several clients and the order in which they are played; all of it chosen by Hypothesis.

A client in a transaction holds its server connection. So where there are n of those, a client outside a transaction is
played only while fewer than n are inside one: nobody ever has to wait for a step that comes later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.integration.sessions.player import Player
from tests.integration.sessions.steps import OBSERVE, Simple, Step, steps

_STARTUPS: tuple[dict[str, str], ...] = (
    {},
    {},
    {"application_name": "own name"},
    {"options": "-c search_path=s2"},
    {"options": "-c search_path=s1,s2 -c my.var=started", "TimeZone": "Asia/Tokyo"},
    {"TimeZone": "America/New_York", "DateStyle": "SQL, DMY", "application_name": ""},
    {"options": r"-c work_mem=3MB --statement-timeout=50s -c my.var=a\ b"},
    {"client_encoding": "LATIN1", "default_transaction_isolation": "repeatable read"},
    {"options": "-c role=clerk", "search_path": "s1"},
)


@dataclass(frozen=True)
class Program:
    startup: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    abrupt: bool  # gone without a word, perhaps in the middle of a transaction

    @property
    def whole(self) -> tuple[Step, ...]:
        return self.steps if self.abrupt else (*self.steps, Simple("rollback"), Simple(OBSERVE))

    def __str__(self) -> str:
        return "\n".join([f"login {dict(self.startup)}", *map(str, self.whole), "gone" if self.abrupt else "bye"])


@dataclass(frozen=True)
class Play:
    user: str
    programs: tuple[Program, ...]
    order: tuple[int, ...]

    def __str__(self) -> str:
        told = [f"client {n}:\n{program}\n" for n, program in enumerate(self.programs)]
        return f"as {self.user}\n{''.join(told)}order {self.order}"


@st.composite
def plays(draw: st.DrawFn) -> Play:
    programs = []
    for _ in range(draw(st.integers(2, 4))):
        startup = draw(st.sampled_from(_STARTUPS))
        chosen = draw(st.lists(steps(), min_size=1, max_size=12))
        programs.append(Program(tuple(startup.items()), tuple(chosen), draw(st.sampled_from((False, False, True)))))
    user = draw(st.sampled_from(("app", "app", "app", "boss")))
    return Play(user, tuple(programs), tuple(draw(st.lists(st.integers(0, 3), max_size=40))))


def alone(play: Play, enter: Callable[[Program], Player]) -> list[list[str]]:
    """Each program from beginning to end by itself; what each was told."""
    told = []
    for program in play.programs:
        with enter(program) as player:
            for step in program.whole:
                player.play(step)
            told.append(player.told)
    return told


def together(play: Play, enter: Callable[[Program], Player], connections: int) -> tuple[list[list[str]], list[str]]:
    """All programs interleaved; what each was told, and what was played in which order. A lost client ends it."""
    players: list[Player] = []
    history: list[str] = []
    try:
        for program in play.programs:
            players.append(enter(program))
        left = [list(program.whole) for program in play.programs]
        while chosen := _eligible(players, left, connections):
            turn = len(history)
            at = play.order[turn] if turn < len(play.order) else turn
            n = chosen[at % len(chosen)]
            step = left[n].pop(0)
            history.append(f"client {n}: {step}")
            players[n].play(step)
            if players[n].lost:
                break
            if not left[n]:
                players[n].leave(abrupt=play.programs[n].abrupt)
    finally:
        for player in players:
            player.leave(abrupt=True)
    return [player.told for player in players], history


def _eligible(players: Sequence[Player], left: Sequence[Sequence[Step]], connections: int) -> list[int]:
    inside = sum(player.inside for player in players)
    return [n for n, player in enumerate(players) if left[n] and (player.inside or inside < connections)]
