"""The control socket: HTTP and JSON over a Unix socket, for root and the user the proxy runs as.

Reads are GET (`/v1/status`, `pools`, `clients`, …), verbs are POST (`/v1/drain`, …) with a JSON object of
arguments. The file has mode 0600, and every request is checked against the kernel's word on who is at the other end
(SO_PEERCRED). Knows the controller only as a `ControlPort`. Every failure is answered as
`{"error": sentence, "reasons": [sentence, …]}`.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from proxy.admin.port import LARGEST_BODY, SOCKET_NAME, ControlPort, RefusedError
from proxy.control.problems import ConfigErrors
from proxy.control.rundir import prepare_run_dir

__all__ = ["AlreadyServedError", "Server", "start"]

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 2.0
_REQUIRED = {"client", "text"}  # of the arguments that verbs take
_UCRED = struct.Struct("3i")  # pid, uid, gid

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AlreadyServedError(OSError):
    """Another proxy answers on this control socket."""


class BadRequestError(Exception):
    """The request itself is wrong."""


class Server:
    """A control socket that is open; `stop` closes it and removes the file if it is still ours."""

    def __init__(self, runner: web.AppRunner, path: Path) -> None:
        self._runner = runner
        self.path = path
        self._inode = path.stat().st_ino

    async def stop(self) -> None:
        await self._runner.cleanup()
        try:
            if self.path.stat().st_ino == self._inode:  # else a successor's
                self.path.unlink()
        except FileNotFoundError:
            pass


async def start(port: ControlPort, run_dir: Path) -> Server:
    """Serve `port` on run_dir/control.sock. Raises OSError, in words, if that cannot be."""
    prepare_run_dir(run_dir)
    path = run_dir / SOCKET_NAME
    await _probe(path)
    app = web.Application(middlewares=[_guard], client_max_size=LARGEST_BODY)
    routes = Routes(port)
    app.add_routes([web.get(f"/v1/{name}", routes.read) for name in routes.reads])
    app.add_routes([web.post(f"/v1/{name}", routes.act) for name in routes.verbs])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    listener = _listen(path)
    try:
        await web.SockSite(runner, listener).start()
    except BaseException:
        listener.close()
        await runner.cleanup()
        raise
    return Server(runner, path)


async def _probe(path: Path) -> None:
    """A socket file nobody listens on is left over from a controller that was killed; one that answers is not ours."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except (OSError, TimeoutError):
        pass
    else:
        writer.close()
    raise AlreadyServedError(f"another proxy serves {path}; stop it, or choose another run_dir")


def _listen(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0600 from its first moment, taking the place of a stale one at once."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        listener.setblocking(False)
        os.fchmod(listener.fileno(), 0o600)  # Linux gives the mode of the unbound socket to the file that bind makes
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        listener.listen()
        fresh.rename(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def peer_uid(request: web.Request) -> int | None:
    """The user at the other end, or None if the connection is gone."""
    sock = request.get_extra_info("socket")
    if sock is None:
        return None
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Who may ask, and every failure as JSON."""
    if peer_uid(request) not in {0, os.geteuid()}:
        return _failure(403, "only root and the user the proxy runs as may use the control socket")
    try:
        return await handler(request)
    except RefusedError as refused:
        return _failure(409, *refused.reasons)
    except ConfigErrors as invalid:
        return _failure(422, *(str(error) for error in invalid.errors))
    except BadRequestError as bad:
        return _failure(400, str(bad))
    except web.HTTPException as http:
        return _failure(http.status, f"{request.method} {request.path}: {http.reason}")
    except Exception:
        log.exception("control socket: %s %s failed", request.method, request.path)
        return _failure(500, "the controller failed to answer; its log says why")


def _failure(status: int, *reasons: str) -> web.Response:
    return _json({"error": reasons[0] if reasons else "refused", "reasons": list(reasons)}, status)


def _json(data: Any, status: int = 200) -> web.Response:
    # enums, tuples and dataclasses are orjson's own; the rest of an operator's view is shown by its text
    body = orjson.dumps(data, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, status=status, content_type="application/json")


class Routes:
    """The list of verbs, each with the arguments it takes and their types."""

    def __init__(self, port: ControlPort) -> None:
        self.reads: dict[str, Callable[[], Awaitable[Any]]] = {
            "status": port.status,
            "pools": port.pools,
            "clients": port.clients,
            "servers": port.servers,
            "pins": port.pins,
        }
        self.verbs: dict[str, tuple[Callable[..., Awaitable[Any]], dict[str, tuple[type, ...]]]] = {
            "drain": (port.drain, {"deadline": (float, int)}),
            "undrain": (port.undrain, {}),
            "pause": (port.pause, {"target": (str,)}),
            "resume": (port.resume, {"target": (str,)}),
            "reload": (port.reload, {}),
            "shutdown": (port.shutdown, {"fast": (bool,)}),
            "kill": (port.kill, {"client": (int,)}),
            "explain": (port.explain, {"text": (str,), "proxy": (str,)}),
        }

    async def read(self, request: web.Request) -> web.Response:
        return _json(await self.reads[_last(request)]())

    async def act(self, request: web.Request) -> web.Response:
        verb, types = self.verbs[_last(request)]
        return _json(await verb(**_arguments(await request.read(), types)))


def _last(request: web.Request) -> str:
    return request.path.rpartition("/")[2]


def _arguments(body: bytes, types: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise BadRequestError("the body must be a JSON object")
    for name, value in found.items():
        if name not in types:
            raise BadRequestError(f"unknown argument {name!r}; known: {', '.join(types) or 'none'}")
        # True is an int to Python, not to an operator
        if type(value) not in types[name]:
            raise BadRequestError(f"{name!r} must be {' or '.join(each.__name__ for each in types[name])}")
    for name in types:
        if name in _REQUIRED and name not in found:
            raise BadRequestError(f"{name!r} is required")
    return found
