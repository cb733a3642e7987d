"""The verbs that need no running worker: explanations by a proxy's own policy, and the view of pins."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.admin.port import RefusedError, Row
from proxy.controller.verbs import Verbs


def proxy(name: str, family: str = "POSTGRESQL", **group: Any) -> Any:
    from proxy.model import EngineFamily

    return SimpleNamespace(name=name, engine_family=EngineFamily(family), target_group=SimpleNamespace(**group))


class FakeLinks:
    def __init__(self, answers: dict[int, Row], errors: list[str]) -> None:
        self.answers, self.errors = answers, errors
        self.asked: list[tuple[str, Row]] = []

    async def request(self, verb: str, **args: Any) -> tuple[dict[int, Row], list[str]]:
        self.asked.append((verb, args))
        return self.answers, self.errors


def verbs(*proxies: Any, links: FakeLinks | None = None) -> Verbs:
    publication = SimpleNamespace(snapshot=SimpleNamespace(proxies=proxies))
    return Verbs(cast(Any, None), cast(Any, links), cast(Any, publication), cast(Any, None))


def explained(these: Verbs, text: str, name: str | None = None) -> Row:
    return asyncio.run(these.explain(text, name))


def test_explain_by_the_only_proxy() -> None:
    found = explained(verbs(proxy("orders")), "listen c; set a = 1")
    assert (found["proxy"], found["outcome"]) == ("orders", "pinned")
    assert [one["digest"] for one in found["statements"]] == ["listen c", "set a = $1"]
    assert found["statements"][0]["pins"][0]["policy"] == "pin"
    assert found["statements"][1]["sets"] == ["a"]
    assert [each["reason"] for each in found["rds_proxy"]["pins"]] == ["setting", "listen"]


@pytest.mark.parametrize("made", [dict, lambda given: tuple(given.items())])
def test_explain_by_a_policy(made: Any) -> None:
    policy = {"listen": "ignore", "advisory_lock": "refuse", "of_a_later_version": "pin"}
    these = verbs(proxy("orders", pin_policy=made(policy)), proxy("other"))
    assert explained(these, "listen c", "orders")["outcome"] == "free"
    assert explained(these, "select pg_advisory_lock(1)", "orders")["outcome"] == "refused"
    assert explained(these, "do ''", "orders")["outcome"] == "pinned"
    assert explained(these, "listen c", "other")["outcome"] == "pinned"


def test_explain_by_which_proxy() -> None:
    with pytest.raises(RefusedError, match="which proxy\\? There are: a, b"):
        explained(verbs(proxy("a"), proxy("b")), "select 1")
    with pytest.raises(RefusedError, match="no proxy 'c'; known: a"):
        explained(verbs(proxy("a")), "select 1", "c")
    with pytest.raises(RefusedError, match="proxy m is a MYSQL proxy"):
        explained(verbs(proxy("m", "MYSQL")), "select 1")


def test_pins_of_all_workers() -> None:
    links = FakeLinks({1: {"rows": [{"id": 3}]}, 0: {"rows": [{"id": 2}, {"id": 4}]}}, ["worker 2 is down"])
    rows = asyncio.run(verbs(links=links).pins())
    assert rows == [{"worker": 0, "id": 2}, {"worker": 0, "id": 4}, {"worker": 1, "id": 3}]
    assert links.asked == [("dump", {"what": "pins"})]
    with pytest.raises(RefusedError, match="all down"):
        asyncio.run(verbs(links=FakeLinks({}, ["all down"])).pins())
