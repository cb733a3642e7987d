"""One client that plays steps and writes down what it is told: results, errors, tags, status, parameters.

ParameterStatus is written down as what the client believes after the step, not as messages: the same value told twice
is no difference to anybody.
"""

import struct
from collections.abc import Mapping
from typing import Self

from tests.harness.messages import Message, terminate
from tests.harness.wire import FakeClient
from tests.integration.sessions.steps import Step

_WAITED_IN_VAIN = "08000"  # the proxy's own, for a borrow timeout: there is no point in playing on
_OF_AN_ERROR = "SCMDHPWscqtdn"  # not the file, line and routine of the server's source


def spoken(m: Message) -> str:
    """A message as a line. Fields of errors by letter, everything else by its bytes."""
    if m.name in {"ErrorResponse", "NoticeResponse"}:
        return f"{m.name} { ({k: v for k, v in m.fields.items() if k in _OF_AN_ERROR}) }"
    if m.name == "DataRow":
        return f"DataRow {m.values}"
    if m.name in {"CommandComplete", "ReadyForQuery"}:
        return f"{m.name} {m.strings[0]}"
    if m.name == "RowDescription":
        return f"RowDescription {' '.join(_columns(m.body))}"
    return f"{m.name} {m.body!r}" if m.body else m.name


def _columns(body: bytes) -> list[str]:
    """name:table.column:type:length:modifier:format of each, without the origin of what is no column of a table."""
    found, at = list[str](), 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        end = body.index(0, at)
        table, column, *kind = struct.unpack_from("!ihihih", body, end + 1)
        origin = f"{table}.{column}:" if table else ""
        found.append(f"{body[at:end].decode()}:{origin}{':'.join(map(str, kind))}")
        at = end + 19
    return found


class Player:
    def __init__(self, address: tuple[str, int], user: str, password: str, startup: Mapping[str, str]) -> None:
        self.told: list[str] = []
        self.status = "I"
        self.lost = False
        self._client: FakeClient | None = FakeClient(*address, timeout=10)
        try:
            self._client.login(user, password, **startup)
        except (OSError, EOFError) as error:
            self._lose(error)
        else:
            self._known = dict(self._client.parameters)
            self.told.append(f"login: {sorted(self._known.items())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    @property
    def inside(self) -> bool:
        """In a transaction, which holds a server connection."""
        return self.status != "I"

    def play(self, step: Step) -> None:
        if self._client is None:
            return
        self.told.append(f"> {step}")
        parameters = self._client.parameters
        try:
            self._client.send(step.raw)
            while True:
                m = self._client.read()
                if m.name == "ParameterStatus":
                    name, value = ([*m.strings, ""])[:2]
                    parameters[name] = value
                    continue
                self.told.append(spoken(m))
                if m.name == "ErrorResponse" and m.fields["C"] == _WAITED_IN_VAIN:
                    raise TimeoutError("no server connection")
                if m.name == "ReadyForQuery":
                    break
        except (OSError, EOFError) as error:
            self._lose(error)
            return
        self.status = m.status
        changed = sorted(parameters.items() - self._known.items())
        if changed:
            self.told.append(f"parameters: {changed}")
            self._known = dict(parameters)

    def _lose(self, error: Exception) -> None:
        self.told.append(f"lost: {type(error).__name__} {error}")
        self.lost = True
        self.leave(abrupt=True)

    def leave(self, *, abrupt: bool = False) -> None:
        if self._client is None:
            return
        if not abrupt:
            self._client.send(terminate())
        self._client.close()
        self._client, self.status = None, "I"
