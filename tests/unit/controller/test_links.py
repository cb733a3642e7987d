"""Both ends of the link on one loop: who is heard, who is stale, and what a death costs."""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from proxy.controller.links import Links, WorkerFailed, WorkerLink
from proxy.model import Snapshot
from proxy.net import packets
from proxy.worker.link import ControllerLink

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = packets.pair()
    yield one, other
    one.close()
    other.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0)


class Worker:
    def __init__(self, sock: socket.socket) -> None:
        self.applied: list[int] = []
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.link = ControllerLink(sock, self.apply, self.handle)
        self.link.open()

    async def apply(self, snapshot: Snapshot) -> None:
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        self.applied.append(snapshot.version)

    async def handle(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(verb)
        if verb == "fail":
            raise ValueError("no such thing")
        if verb == "hang":
            await asyncio.Event().wait()
        return {"args": args}


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def controller(sock: socket.socket, version: int = 1) -> Links:
    def on_hello(link: WorkerLink) -> None:
        if link.version != version:
            link.publish(Snapshot(version, ()))

    return Links([sock], on_hello)


@pytest.mark.parametrize("first", ["worker", "controller"])
def test_they_find_each_other_whoever_is_first(pair: Pair, first: str) -> None:
    async def main() -> None:
        if first == "worker":
            worker = Worker(pair[1])
            await asyncio.sleep(0)
            links = controller(pair[0])
        else:
            links = controller(pair[0])
            await asyncio.sleep(0)
            worker = Worker(pair[1])
        await until(lambda: links.workers[0].version == 1)
        assert worker.applied == [1], "once, although both said hello"
        assert await links.workers[0].request("do", n=1) == {"args": {"n": 1}}
        links.close()
        worker.link.close()

    run(main)


def test_a_new_controller_takes_over_and_the_old_ones_messages_are_stale(pair: Pair) -> None:
    async def main() -> None:
        worker = Worker(pair[1])
        first = controller(pair[0])
        await until(lambda: first.workers[0].version == 1)
        question = asyncio.create_task(first.workers[0].request("hang"))
        await until(lambda: worker.asked)
        first.close()  # as good as killed: what it asked is still owed
        with pytest.raises(WorkerFailed):
            await question
        second = controller(pair[0])
        await until(lambda: second.workers[0].known)
        assert second.workers[0].version == 1, "nothing to publish: it has that one"
        assert worker.applied == [1]
        assert await second.workers[0].request("do") == {"args": {}}
        second.close()
        worker.link.close()

    run(main)


def test_a_new_worker_does_not_obey_what_its_predecessor_was_told(pair: Pair) -> None:
    async def main() -> None:
        worker = Worker(pair[1])
        links = controller(pair[0])
        await until(lambda: links.workers[0].version == 1)
        worker.link.close()  # dead
        question = asyncio.create_task(links.workers[0].request("kill", slot=5))
        links.workers[0].publish(Snapshot(2, ()))
        await asyncio.sleep(0.01)
        newborn = Worker(pair[1])
        with pytest.raises(WorkerFailed, match="restarted"):
            await question
        await until(lambda: newborn.applied)
        assert newborn.asked == []
        assert newborn.applied == [1], "what the controller says on its hello, not what lay in the socket"
        links.close()
        newborn.link.close()

    run(main)


def test_an_error_in_a_verb_is_the_askers(pair: Pair) -> None:
    async def main() -> None:
        worker, links = Worker(pair[1]), controller(pair[0])
        await until(lambda: links.workers[0].version == 1)
        with pytest.raises(WorkerFailed, match="no such thing"):
            await links.workers[0].request("fail")
        answers, errors = await links.request("fail")
        assert (answers, errors) == ({}, ["no such thing"])
        links.close()
        worker.link.close()

    run(main)


def test_of_several_snapshots_the_newest_is_applied_and_answers_for_all(pair: Pair) -> None:
    async def main() -> None:
        worker, links = Worker(pair[1]), controller(pair[0])
        await until(lambda: links.workers[0].version == 1)
        worker.gate.clear()
        links.publish(Snapshot(2, ()))
        await asyncio.sleep(0.01)  # being applied
        for version in (3, 4):
            links.publish(Snapshot(version, ()))
        waiting = [asyncio.create_task(links.settled(version)) for version in (2, 3, 4)]
        await asyncio.sleep(0.01)
        worker.gate.set()
        assert await asyncio.gather(*waiting) == [[], [], []]
        assert worker.applied == [1, 2, 4]
        links.close()
        worker.link.close()

    run(main)


def test_a_snapshot_that_cannot_be_applied(pair: Pair) -> None:
    async def main() -> None:
        worker, links = Worker(pair[1]), controller(pair[0])
        await until(lambda: links.workers[0].version == 1)
        worker.fails = OSError("Address already in use")
        links.publish(Snapshot(2, ()))
        assert await links.settled(2) == ["Address already in use"]
        worker.fails = ExceptionGroup("two", [OSError("one"), OSError("other")])
        links.publish(Snapshot(3, ()))
        assert await links.settled(3) == ["one", "other"]
        assert worker.link.version == 1
        links.close()
        worker.link.close()

    run(main)


def test_a_death_settles_what_is_owed(pair: Pair) -> None:
    async def main() -> None:
        worker, links = Worker(pair[1]), controller(pair[0])
        await until(lambda: links.workers[0].version == 1)
        worker.gate.clear()
        links.publish(Snapshot(2, ()))
        waiting = asyncio.create_task(links.settled(2))
        await asyncio.sleep(0.01)
        links.workers[0].forget("the worker died")
        assert await waiting == [], "its successor will get it; the reload goes on"
        with pytest.raises(WorkerFailed, match="not up"):
            await links.workers[0].request("do")
        links.close()
        worker.link.close()

    run(main)
