"""The corpus of malformed inputs: each is refused as its .toml says, in every cut. A case is never deleted.

`tests/corpus/pgsql/bad/<engine>/<name>.bin` is what a peer says; add a case by adding two files.
"""

import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ProxyError, UnsupportedAuthentication
from proxy.exchange import Exchange
from proxy.model import ClientPasswordAuthType, ClientTlsMode, Credential
from proxy.pgsql._backend import BackendDoor, BackendFault
from proxy.pgsql._frontend import FrontendDoor, FrontendFault
from proxy.pgsql._owed import OwedKind
from proxy.pgsql.authclient import log_in
from proxy.pgsql.authserver import authenticate
from proxy.pgsql.exchange import Line
from proxy.pgsql.messages import error_response
from proxy.pgsql.startup import startup
from tests.harness import messages as m
from tests.harness.delivery import check
from tests.unit.pgsql.drive import play, play_every_way

BAD = Path(__file__).parents[2] / "corpus" / "pgsql" / "bad"
OWED = {
    "Q": OwedKind.OWED_QUERY,
    "P": OwedKind.OWED_PARSE,
    "B": OwedKind.OWED_BIND,
    "E": OwedKind.OWED_EXECUTE,
    "S": OwedKind.OWED_SYNC,
}
CREDENTIAL = Credential("app", "apppw", ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256)

Case = tuple[bytes, dict[str, Any]]


def cases(engine: str) -> pytest.MarkDecorator:
    found = sorted((BAD / engine).glob("*.bin"))
    read = [(path.read_bytes(), tomllib.loads(path.with_suffix(".toml").read_text())) for path in found]
    return pytest.mark.parametrize("case", read, ids=[path.stem for path in found])


def told(error: Exception | None) -> tuple[str, str]:
    """What the client reads of it: SQLSTATE and text."""
    assert isinstance(error, ProxyError), error
    fields = m.Message("E", "ErrorResponse", error_response(error)[5:]).fields
    assert fields["S"] == fields["V"] == "FATAL"
    return fields["C"], fields["M"]


def _startup(mode: ClientTlsMode, line: Line) -> Exchange[Any]:
    return startup(line, mode)


@pytest.mark.edge_case(60, 63, 65, 66)
@cases("startup")
def test_startup(case: Case) -> None:
    data, expected = case
    turns, at = [], 0
    for size in expected.get("turns", [len(data)]):
        turns.append(data[at : at + size])
        at += size
    talk = partial(_startup, ClientTlsMode(expected.get("tls", "off")))
    injected = "unencrypted data" in expected["text"]  # is about what comes together
    outcome = play(talk, turns) if injected else play_every_way(talk, turns)
    state, text = told(outcome.error)
    assert state == expected["sqlstate"]
    assert text.endswith(expected["text"])
    assert outcome.sent == expected.get("sent", "").encode()


@pytest.mark.edge_case(65)
@cases("frontend")
def test_frontend(case: Case) -> None:
    data, expected = case
    check(FrontendDoor, data, violation=True)
    door = FrontendDoor()
    door.feed(data)
    assert door.fault == FrontendFault["FE_" + expected["fault"]]


@pytest.mark.edge_case(65)
@cases("backend")
def test_backend(case: Case) -> None:
    data, expected = case

    def asked() -> BackendDoor:
        made = BackendDoor()
        for letter in expected["asked"]:
            made.request(OWED[letter])
        return made

    check(asked, data, violation=True)
    door = asked()
    door.feed(data)
    assert door.fault == BackendFault["BE_" + expected["fault"]]


@pytest.mark.edge_case(61)
@cases("scram_server")
def test_scram_server(case: Case) -> None:
    data, expected = case

    def talk(line: Line) -> Exchange[bytes]:
        return authenticate(line, CREDENTIAL, "app")

    error = play(talk, [data]).error
    bytewise = play(talk, [bytes([byte]) for byte in data]).error
    assert told(error) == told(bytewise)
    assert told(error)[0] == (
        UnsupportedAuthentication.sqlstate if expected["sqlstate"] == "28000" else expected["sqlstate"]
    )


@pytest.mark.edge_case(61, 64)
@cases("scram_client")
def test_scram_client(case: Case) -> None:
    data, expected = case

    def talk(line: Line) -> Exchange[Any]:
        return log_in(line, user="app", database="test", password="apppw")

    deliveries = [[data], [bytes([byte]) for byte in data]]
    for pieces in deliveries[: 1 if expected.get("at_once") else 2]:
        error = play(talk, pieces).error
        assert type(error).__name__ == expected["error"], repr(error)


def test_the_corpus_is_there() -> None:
    assert {path.name: len(list(path.glob("*.bin"))) >= 20 for path in BAD.iterdir()} == dict.fromkeys(
        ("startup", "frontend", "backend", "scram_server", "scram_client"), True
    )
    assert {p.with_suffix("") for p in BAD.glob("*/*.bin")} == {p.with_suffix("") for p in BAD.glob("*/*.toml")}
