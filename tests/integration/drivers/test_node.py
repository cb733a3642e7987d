"""node-postgres with its cursors, streams, COPY and pool."""

import pytest

from tests.harness import node as packages
from tests.integration.drivers.sides import Say, Side, Sides, run


@pytest.mark.timeout(150)  # the first run fetches packages
@pytest.mark.parametrize("part", ["queries", "streams", "listening", "pooled", "ended"])
def test_node_postgres_prints_the_same(part: str, sides: Sides) -> None:
    script = packages.folder() / "script.js"

    def node(say: Say, side: Side) -> None:
        done = run(side, "node", str(script), part)
        say(done.stdout)
        say("stderr:", done.stderr)
        assert done.returncode == 0, done.stderr

    node.__qualname__ = f"node[{part}]"
    sides.same(node)
