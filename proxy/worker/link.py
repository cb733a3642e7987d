"""The worker's end of its link to the controller: snapshots come in, verbs come in, answers go out.

Either side may die and be born again on the same socket, with messages of the dead still in it. So each life
has a nonce and each message names the life it is for: a successor never obeys what its predecessor was told.
Snapshots are applied one at a time and in order; of several that wait, only the newest. The link does not know
what a snapshot holds.
"""

import asyncio
import logging
import os
import pickle
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.model import Snapshot
from proxy.net import packets

log = logging.getLogger(__name__)

Apply = Callable[[Snapshot], Awaitable[None]]
Handle = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class ControllerLink:
    def __init__(self, sock: socket.socket, apply: Apply, handle: Handle) -> None:
        self._apply = apply
        self._handle = handle
        self._socket = sock
        self._nonce = secrets.token_hex(8)
        self._peer = ""
        self.version = 0  # applied
        self._newest: Snapshot | None = None
        self._applying: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._channel: packets.Channel | None = None

    def open(self) -> None:
        """Introduces this worker, with the version it has already."""
        self._channel = packets.Channel(self._socket, self._on_message)
        self._greet()

    def _greet(self) -> None:
        self._say({"hello": self._nonce, "version": self.version, "pid": os.getpid()})

    def _say(self, message: packets.Message) -> None:
        if self._channel is not None:
            self._channel.send({**message, "from": self._nonce, "to": self._peer})

    def _on_message(self, message: packets.Message, fd: int | None) -> None:
        try:
            if "hello" in message:  # a new controller asks who is there
                self._peer = message["hello"]
                self._greet()
                return
            if message.get("to") != self._nonce:
                return
            self._peer = message.get("from", "")
            if "snapshot" in message and fd is not None:
                self._offer(pickle.loads(packets.unsealed(fd)))
            elif "request" in message:
                task = asyncio.get_running_loop().create_task(self._serve(message, self._peer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except Exception:  # a controller's mistake must not cost a client anything
            log.exception("a message from the controller could not be read")
        finally:
            packets.close_fd(fd)

    def _offer(self, snapshot: Snapshot) -> None:
        self._newest = snapshot
        if self._applying is None or self._applying.done():
            self._applying = asyncio.get_running_loop().create_task(self._apply_newest())

    async def _apply_newest(self) -> None:
        while self._newest is not None:
            snapshot, self._newest = self._newest, None
            try:
                await self._apply(snapshot)
            except Exception as e:  # the last one stays in force
                if not isinstance(e, OSError | ValueError):
                    log.exception("snapshot %d could not be applied", snapshot.version)
                reasons = [str(each) for each in e.exceptions] if isinstance(e, ExceptionGroup) else [str(e)]
                self._say({"failed": snapshot.version, "errors": reasons})
            else:
                self.version = snapshot.version
                self._say({"ready": snapshot.version})

    async def _serve(self, message: packets.Message, asker: str) -> None:
        try:
            answer: dict[str, Any] = {"result": await self._handle(message["verb"], message.get("args") or {})}
        except Exception as e:
            log.debug("verb %s failed", message.get("verb"), exc_info=True)
            answer = {"error": str(e) or type(e).__name__}
        if asker == self._peer:
            self._say({"reply": message["request"], **answer})

    def close(self) -> None:
        for task in (*self._tasks, self._applying):
            if task is not None:
                task.cancel()
        if self._channel is not None:
            self._channel.close()
