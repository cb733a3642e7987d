"""Random programs of several clients over one or two server connections: each sees what it would see alone, directly.

Edge cases: 16, 17, 22, 24, 26, 28, 39 to 44, 47 to 50. The first parameter plays everything directly, interleaved as
well: it shows that the comparison itself is right.

    SLUICEWAY_EXAMPLES=5000 pytest tests/integration/sessions/test_property.py    more (default: the same 60, 20 s)
    SLUICEWAY_SEED=123 …                                                          the run that printed this seed
"""

import os
import random
from collections.abc import Callable
from difflib import unified_diff

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings

from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.integration.sessions import scenery
from tests.integration.sessions.patience import Patience
from tests.integration.sessions.player import Player
from tests.integration.sessions.program import Play, Program, alone, plays, together

# By default the same programs each time, so that a change of the code is what a failure means; with a number, new ones.
EXAMPLES = int(os.environ.get("SLUICEWAY_EXAMPLES", "60"))
_NEW = "SLUICEWAY_EXAMPLES" in os.environ
SEED = int(os.environ.get("SLUICEWAY_SEED", str(random.SystemRandom().getrandbits(32) if _NEW else 1)))
_SHRINK_S = 30.0
_LIMIT_S = 120 + EXAMPLES  # a second for each would be very slow

Address = tuple[str, int]


def compare(play: Play, direct: Address, through: Address, connections: int) -> None:
    def entrance(address: Address) -> Callable[[Program], Player]:
        return lambda program: Player(address, play.user, scenery.password(play.user), dict(program.startup))

    expected = alone(play, entrance(direct))
    found, history = together(play, entrance(through), connections)
    differences = []
    for n, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
        if theirs != ours:
            told = unified_diff(theirs, ours, "alone, directly", "together, through the proxy", n=4, lineterm="")
            differences += [f"--- client {n}", *told]
    assert not differences, "\n".join([*differences, "", str(play), "", "played:", *history])


@pytest.mark.edge_case(16, 17, 22, 24, 26, 28, 39, 40, 41, 42, 43, 44, 47, 48, 49, 50)
@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("way", ["direct", "one", "two"])
def test_nobody_sees_that_the_connection_is_shared(
    way: str, server: Postgres, one: ProxyUnderTest, two: ProxyUnderTest
) -> None:
    direct = (server.host, server.port)
    through, connections = {
        "direct": (direct, 2),
        "one": ((one.host, one.port), 1),
        "two": ((two.host, two.port), 2),
    }[way]
    patience = Patience(_SHRINK_S)

    @hypothesis.seed(SEED)
    @settings(
        max_examples=EXAMPLES if way != "direct" else max(EXAMPLES // 5, 10),
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(plays())
    def check(play: Play) -> None:
        patience.run(str(play), lambda: compare(play, direct, through, connections))

    print(f"SLUICEWAY_SEED={SEED} SLUICEWAY_EXAMPLES={EXAMPLES}")
    check()
