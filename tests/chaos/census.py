"""How many connections the database itself counts, every 20 ms, and how many of them belong to the dead.

A database process whose client was killed goes on until it next looks at its socket: at once if it was idle, else at
the end of its statement. Until then it counts beside its successor, and no proxy can know when it has gone. So the
ceiling is held against the living; the dead are counted apart, and so is how long they lasted.

One that the proxy closes in order (a permit goes to another worker) is seen here for the moment its process needs to
read the Terminate and end, while its successor may be there already. That is the only excuse: `above` forgives a
surplus that is gone at the next look, if it is not larger than one per worker.
"""

import threading
import time
from collections.abc import Sequence
from typing import Self

import psycopg

from tests.chaos.killer import Death
from tests.harness.postgres import Postgres

_EVERY_S = 0.02


class Census:
    def __init__(self, pg: Postgres) -> None:
        self._pg = pg
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="census")
        self.samples: list[tuple[float, frozenset[int]]] = []  # when it was begun, ports of the proxy's ends

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        sql = "SELECT client_port FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'"
        where = {"host": str(self._pg.folder), "port": self._pg.port, "user": self._pg.superuser, "dbname": "postgres"}
        with psycopg.connect(**where, autocommit=True) as connection:  # type: ignore[arg-type]
            while not self._stop.wait(_EVERY_S):
                at = time.monotonic()
                self.samples.append((at, frozenset(row[0] for row in connection.execute(sql))))

    def living(self, deaths: Sequence[Death]) -> list[tuple[float, int]]:
        """(when, connections) without those of the dead."""
        return [(at, len(ports - self._ghosts(at, deaths))) for at, ports in self.samples]

    def above(self, limit: int, deaths: Sequence[Death], workers: int = 2) -> list[tuple[float, int]]:
        """Samples above the limit that a goodbye under way does not explain."""
        living = self.living(deaths)
        pairs = zip(living, [*living[1:], (0.0, limit + 1)], strict=True)
        return [(at, n) for (at, n), (_, after) in pairs if n > limit and (n > limit + workers or after > limit)]

    def ghosts_last(self, deaths: Sequence[Death]) -> float:
        """The longest time that a connection was seen after its worker's death, in seconds."""
        longest = 0.0
        for death in deaths:
            left = set(death.ports)
            for at, ports in self.samples:
                if at < death.at or not left:
                    continue
                left &= ports
                if left:
                    longest = max(longest, at - death.at)
        return longest

    def _ghosts(self, now: float, deaths: Sequence[Death]) -> set[int]:
        """Ports of the dead that have been there ever since: one that was seen free is somebody else's by now."""
        found: set[int] = set()
        for death in deaths:
            if death.at > now or not death.ports:
                continue
            left = set(death.ports)
            for at, ports in self.samples:
                if at > now or not left:
                    break
                if at >= death.at:
                    left &= ports
            found |= left
        return found
