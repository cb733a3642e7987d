"""The controller's ends of its links to the workers: one `WorkerLink` each, `Links` for all together.

A worker introduces itself with a nonce; what is sent to it names that nonce, what comes from it must name ours
(see `worker/link.py` for the why). A worker that dies fails the requests it owes; one that does not answer
costs its request's deadline and nothing else. Which snapshot a worker gets is decided by whoever owns the
links.
"""

import asyncio
import itertools
import logging
import pickle
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

from proxy.model import Snapshot
from proxy.net import packets

log = logging.getLogger(__name__)

REQUEST_S = 5.0
APPLY_S = 15.0


class WorkerFailed(Exception):
    """A worker answered with an error, died, or did not answer."""


class WorkerLink:
    def __init__(self, index: int, sock: socket.socket, nonce: str, on_hello: Callable[["WorkerLink"], None]) -> None:
        self.index = index
        self.version = 0  # applied
        self.pid = 0
        self._nonce = nonce
        self._peer = ""
        self._on_hello = on_hello
        self._numbers = itertools.count(1)
        self._owed: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._applied: dict[int, asyncio.Future[list[str]]] = {}
        self._channel = packets.Channel(sock, self._on_message)
        self._channel.send({"hello": nonce, "from": nonce, "to": ""})

    @property
    def known(self) -> bool:
        return bool(self._peer)

    def _say(self, message: packets.Message, fd: int | None = None) -> None:
        self._channel.send({**message, "from": self._nonce, "to": self._peer}, fd)

    def _on_message(self, message: packets.Message, fd: int | None) -> None:
        packets.close_fd(fd)  # workers pass nothing
        if "hello" in message:
            if message.get("to") not in ("", self._nonce):
                return
            if message["hello"] != self._peer:
                self.forget("the worker was restarted")
                self._peer, self.version = message["hello"], int(message.get("version", 0))
                self.pid = int(message.get("pid", 0))
                self._on_hello(self)
            return
        if message.get("to") != self._nonce or message.get("from") != self._peer:
            return
        if "ready" in message:
            self.version = message["ready"]
            self._settle(self.version, [])
        elif "failed" in message:
            errors = message.get("errors") or ["unknown"]
            log.error("worker %d cannot apply snapshot %d: %s", self.index, message["failed"], "; ".join(errors))
            self._settle(message["failed"], errors)
        elif "reply" in message:
            future = self._owed.pop(message["reply"], None)
            if future is not None and not future.done():
                if "error" in message:
                    future.set_exception(WorkerFailed(message["error"]))
                else:
                    future.set_result(message.get("result") or {})

    def _settle(self, version: int, errors: list[str]) -> None:
        # the worker skips what was overtaken: then the newer one answers for it
        for each in [v for v in self._applied if v <= version]:
            future = self._applied.pop(each)
            if not future.done():
                future.set_result(errors)

    def publish(self, snapshot: Snapshot, data: bytes | None = None) -> None:
        """`data`: the snapshot pickled, if that has been done already."""
        self._say({"snapshot": snapshot.version}, packets.sealed("snapshot", data or pickle.dumps(snapshot)))

    async def settled(self, version: int) -> list[str]:
        """Waits until the worker has applied `version` (empty list) or could not (its reasons)."""
        if self.version >= version or not self._peer:
            return []
        future = self._applied.get(version) or asyncio.get_running_loop().create_future()
        self._applied[version] = future
        try:
            return await asyncio.wait_for(asyncio.shield(future), APPLY_S)
        except TimeoutError:
            return [f"worker {self.index} did not answer within {APPLY_S:g} s"]

    def post(self, verb: str, **args: Any) -> None:
        """A request whose answer nobody waits for."""
        self._say({"request": "", "verb": verb, "args": args})

    async def request(self, verb: str, **args: Any) -> dict[str, Any]:
        """Raises WorkerFailed."""
        if not self._peer:
            raise WorkerFailed(f"worker {self.index} is not up")
        number = f"{self._nonce}-{next(self._numbers)}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._owed[number] = future
        self._say({"request": number, "verb": verb, "args": args})
        try:
            return await asyncio.wait_for(future, REQUEST_S)
        except TimeoutError:
            raise WorkerFailed(f"worker {self.index} did not answer within {REQUEST_S:g} s") from None
        finally:
            self._owed.pop(number, None)

    def forget(self, why: str) -> None:
        """The worker is dead: it answers nothing any more."""
        self._peer, self.version = "", 0
        for future in self._owed.values():
            if not future.done():
                future.set_exception(WorkerFailed(f"worker {self.index}: {why}"))
        self._owed.clear()
        for waiting in self._applied.values():
            if not waiting.done():
                waiting.set_result([])  # its successor gets the newest snapshot anyway
        self._applied.clear()

    def close(self) -> None:
        self.forget("the controller is stopping")
        self._channel.close()


class Links:
    def __init__(self, sockets: Iterable[socket.socket], on_hello: Callable[[WorkerLink], None]) -> None:
        nonce = secrets.token_hex(8)
        self.workers = [WorkerLink(index, sock, nonce, on_hello) for index, sock in enumerate(sockets)]

    def publish(self, snapshot: Snapshot) -> None:
        data = pickle.dumps(snapshot)
        for link in self.workers:
            if link.known:
                link.publish(snapshot, data)

    async def settled(self, version: int) -> list[str]:
        """Every living worker's reasons why `version` is not in force."""
        results = await asyncio.gather(*(link.settled(version) for link in self.workers if link.known))
        return [error for errors in results for error in errors]

    async def request(self, verb: str, **args: Any) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Asks every living worker: (answers by worker, errors)."""
        asked = [link for link in self.workers if link.known]
        results = await asyncio.gather(*(link.request(verb, **args) for link in asked), return_exceptions=True)
        answers: dict[int, dict[str, Any]] = {}
        errors: list[str] = []
        for link, result in zip(asked, results, strict=True):
            if isinstance(result, WorkerFailed):
                errors.append(str(result))
            elif isinstance(result, BaseException):
                raise result
            else:
                answers[link.index] = result
        return answers, errors

    def close(self) -> None:
        for link in self.workers:
            link.close()
