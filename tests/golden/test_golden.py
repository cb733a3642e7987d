"""The conversations under tests/golden/pgsql, through a real relay: whole, byte by byte, cut at every kind of place.

A file is one client and its server. Each turn: what the client sends, what the server sees of it, what it answers, what
the client must see, and how things stand then; the cancel requests that `cancels` counts are carried out after that.
`<eof>` closes that side. Statement names of the proxy's own appear as slw#1, slw#2 …; slw#0 never exists.

`by` in a turn names another client of the same pool. `settings` is what the file's client began its session with, and
`others.NAME.settings` what another one did. What the proxy asks for itself is written `Replay name=value -name …`
(`inside`: without a transaction), `Ask name …` and `Audit reason …`; the answers `Replayed`, `Answered value …` and
`Audited reason …` are no client's.
"""

import re
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.reasons import CloseReason, PinReason
from tests.harness import messages as m
from tests.harness.delivery import SEEDS, cut, deliveries
from tests.harness.relaybox import ERRORS, FakeClient, FakeServer, Gone, RelayBox, parameters
from tests.harness.spoken import by_client, by_server

FILES = sorted(Path(__file__).parent.glob("pgsql/*/*.toml"))
TURN = {"by", "client", "sees", "server", "expect"}
FILE = {"title", "turn", "pool", "told", "settings", "others"}
OURS = ("Replayed", "Answered", "Audited")
EXPECT = {"to_client", "server_conn", "client_conn", "pinned", "owed", "cancels"}
_OWN_NAME = re.compile(rb"slw_([0-9a-f]+)")

Cut = Callable[[bytes], list[bytes]]


def _whole(data: bytes) -> list[bytes]:
    return [data] if data else []


def _named(name: str) -> Cut:
    def cutting(data: bytes) -> list[bytes]:
        return next((pieces for found, pieces in deliveries(data, bytewise_up_to=600) if found == name), cut(data, ()))

    return cutting


WAYS = ["bytewise", "every boundary -1", "every boundary +0", "every boundary +1", "behind every head"]
WAYS += [f"seed {seed}" for seed in SEEDS[:2]]


def _plays() -> Iterator[tuple[str, Cut, Cut]]:
    yield "whole", _whole, _whole
    for way in WAYS:
        yield f"client {way}", _named(way), _whole
        yield f"server {way}", _whole, _named(way)
    yield "both bytewise", _named("bytewise"), _named("bytewise")


def _plain(raw: bytes, seen: dict[bytes, bytes]) -> bytes:
    """A message to the server with the proxy's own statement names as slw#n, by order of appearance."""

    def alias(match: re.Match[bytes]) -> bytes:
        if match[1] == b"0":
            return b"slw#0"
        return seen.setdefault(match[1], b"slw#%d" % (len(seen) + 1))

    if raw[:1] not in b"PBDCQ" or not _OWN_NAME.search(raw):
        return raw
    body = _OWN_NAME.sub(alias, raw[5:])
    return raw[:1] + struct.pack("!I", len(body) + 4) + body


def _settings(values: dict[str, str | list[str]]) -> bytes:
    """As the front hands them over; elements of a list behind marks."""
    return b"".join(
        m.parameter_status(name, value if isinstance(value, str) else "".join("\x01" + one for one in value))
        for name, value in sorted(values.items())
    )


class Conversation:
    """One play of one file."""

    def __init__(self, box: RelayBox, case: dict[str, Any], client_cut: Cut, server_cut: Cut) -> None:
        self.box = box
        self.case = case
        self.client_cut = client_cut
        self.server_cut = server_cut
        self.pool = box.pool(**case.get("pool", {}))
        self.clients: dict[str, FakeClient] = {"": self._client(case)}
        self.client = self.clients[""]
        self.server: FakeServer | None = None
        self.names: dict[bytes, bytes] = {}

    def _client(self, about: dict[str, Any]) -> FakeClient:
        told, begins = parameters(**about.get("told", {})), _settings(about.get("settings", {}))
        return self.box.client(self.pool, told=told, settings=begins)

    def the_server(self) -> FakeServer:
        if self.server is None:
            self.server = self.box.server(self.pool)
        return self.server

    def turn(self, turn: dict[str, Any]) -> None:
        assert set(turn) <= TURN and set(turn.get("expect", {})) <= EXPECT, "unknown word in the file"
        expect = {"to_client": "same", **turn.get("expect", {})}
        by = turn.get("by", "")
        if by not in self.clients:
            self.clients[by] = self._client(self.case.get("others", {}).get(by, {}))
        self.client = self.clients[by]
        said = turn.get("client", [])
        raw = b"".join(by_client(text) for text in said if text != "<eof>")
        self._send(self.client, raw, self.client_cut)
        if "<eof>" in said:
            self.client.close()
        self._server_sees(turn.get("sees", [t for t in said if t not in {"<eof>", "Terminate"}]))
        self._server_answers(turn.get("server", []))
        self._client_sees(expect, turn.get("server", []))
        self._stands(expect)

    def _send(self, peer: FakeClient | FakeServer, raw: bytes, cutting: Cut) -> None:
        pieces = cutting(raw)
        if len(pieces) > 1:
            peer.pieces(pieces)
        elif raw:
            peer.send(raw)

    def _server_sees(self, lines: list[str]) -> None:
        wanted = [by_client(line) for line in lines]
        for raw in wanted:
            server = self.the_server()
            if int.from_bytes(raw[1:5]) + 1 != len(raw):  # half of a message
                server.expect(raw)
                continue
            found = _plain(server.message(), self.names)
            assert found == raw, f"\nthe server got {found!r:.300}\n       wanted {raw!r:.300}"

    def _server_answers(self, lines: list[str]) -> None:
        if not lines:
            return
        server = self.the_server()
        names = {alias.decode(): "slw_" + number.decode() for number, alias in self.names.items()}
        spoken = [re.sub(r"slw#\d+", lambda found: names[found[0]], line) for line in lines if line != "<eof>"]
        raw = b"".join(by_server(line, server.pid) for line in spoken)
        self._send(server, raw, self.server_cut)
        if "<eof>" in lines:
            server.close()

    def _client_sees(self, expect: dict[str, Any], answered: list[str]) -> None:
        if self.client.closed:
            return
        same = [line for line in answered if not line.startswith(OURS)]
        lines = same if expect["to_client"] == "same" else expect["to_client"]
        raw = b""
        for line in lines:
            if line == "<eof>":
                continue
            proxys = re.fullmatch(r"Proxy (\w+)", line)
            raw += ERRORS[CloseReason[proxys[1]]] if proxys else by_server(line, self.client.pid)
        if expect.get("client_conn", "open") == "closed":
            self.client.expect_end(raw)
        else:
            self.client.expect(raw)
            self.client.silent()

    def _stands(self, expect: dict[str, Any]) -> None:
        if "server_conn" in expect or "pinned" in expect:
            self._server_stands(expect)
        if "cancels" in expect:
            self.box.settle()
            asked = [e for e in self.box.log if e[0] == "cancel" and e[3] == self.the_server().pid]
            assert len(asked) == expect["cancels"]
            for event in asked:
                assert event[4] == self.the_server().key
                self.box.relay.cancel_done(event[1])
                self.box.log.remove(event)

    def _server_stands(self, expect: dict[str, Any]) -> None:
        wanted = expect.get("server_conn", "held")
        server = self.the_server()
        if wanted == "closed":
            if not server.closed:
                rest = server.until_end()
                assert rest in {b"", b"X\0\0\0\4"}, f"{rest!r:.200} in front of the end"
            assert server.state == "closed"
            return
        server.becomes({"reusable": "idle", "held": "busy"}.get(wanted, wanted))
        if not server.closed:
            server.silent()
        row = server.row
        assert row is not None
        if "owed" in expect:
            assert row["owed"] == expect["owed"]
        if "pinned" in expect:
            pins = [r.name.removeprefix("PIN_") for r in PinReason if r and row["pins"] >> r & 1]
            assert pins == ([] if expect["pinned"] == "no" else [expect["pinned"]])
        if wanted == "reusable":
            assert row["client_slot"] == -1
            assert row["owed"] == 0
            assert chr(row["tx_status"]) == "I"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_conversation(path: Path) -> None:
    case = tomllib.loads(path.read_text())
    assert case["title"] and set(case) <= FILE
    with RelayBox(limit=1000) as box:
        for name, client_cut, server_cut in _plays():
            play = Conversation(box, case, client_cut, server_cut)
            for number, turn in enumerate(case["turn"], 1):
                try:
                    play.turn(turn)
                except (AssertionError, Gone) as failure:
                    failure.add_note(f"{path.name}, turn {number}, {name}: {case['title']}")
                    raise
            for client in play.clients.values():
                if not client.closed:
                    client.close()
            if play.server is not None and not play.server.closed:
                play.server.close()


def test_there_are_conversations() -> None:
    assert FILES
