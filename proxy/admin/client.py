"""The other end of the control socket, for the command line: one request, one answer, blocking, standard library only.

(`sluiceway ctl` should answer before aiohttp would have been imported.)
"""

import http.client
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy.admin.port import SOCKET_NAME

TIMEOUT_S = 30.0


class UnreachableError(Exception):
    """Nobody answers on the control socket; the text says what to look at."""


class AnswerError(Exception):
    """The proxy answered with a refusal."""

    def __init__(self, status: int, reasons: Sequence[str]) -> None:
        super().__init__(status, reasons)
        self.status = status
        self.reasons = reasons

    def __str__(self) -> str:
        return "\n".join(self.reasons)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    def __init__(self, run_dir: Path, timeout: float = TIMEOUT_S) -> None:
        self.path = run_dir / SOCKET_NAME
        self._timeout = timeout

    def get(self, what: str) -> Any:
        return self._request("GET", what, None)

    def post(self, verb: str, **arguments: Any) -> Any:
        """Arguments that are None are left out: the proxy's own default holds."""
        given = {name: value for name, value in arguments.items() if value is not None}
        return self._request("POST", verb, json.dumps(given).encode())

    def _request(self, method: str, name: str, body: bytes | None) -> Any:
        connection = _UnixConnection(self.path, self._timeout)
        try:
            connection.request(method, f"/v1/{name}", body)
            answer = connection.getresponse()
            status, data = answer.status, answer.read()
        except TimeoutError:
            raise UnreachableError(f"no answer on {self.path} within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(self._why(error)) from None
        finally:
            connection.close()
        try:
            found = json.loads(data)
        except ValueError:
            raise UnreachableError(f"what answers on {self.path} is not this proxy") from None
        if status >= 400:
            raise AnswerError(status, found.get("reasons") or [found.get("error", f"HTTP status {status}")])
        return found

    def _why(self, error: Exception) -> str:
        match error:
            case FileNotFoundError():
                return f"no proxy runs with this run directory: {self.path} does not exist; see --run-dir"
            case ConnectionRefusedError():
                return f"no proxy answers on {self.path}: it was killed, or its controller is just being restarted"
            case PermissionError():
                return f"user {os.geteuid()} may not use {self.path}: be root or the user the proxy runs as"
            case _:
                return f"{self.path}: {error}"
