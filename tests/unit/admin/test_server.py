"""The control socket, over a real one: reads, verbs, refusals; who may use it; and taking the place of a stale file."""

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.admin import server as admin_server
from proxy.admin.client import AnswerError, Client, UnreachableError
from proxy.admin.server import AlreadyServedError, start
from tests.unit.admin.fake_port import STATUS, FakePort


def served(run_dir: Path, use: Callable[[Client], Any], port: FakePort | None = None) -> Any:
    """What `use` returns, run in a thread beside a served FakePort."""

    async def run() -> Any:
        server = await start(port or FakePort(), run_dir)
        try:
            return await asyncio.to_thread(use, Client(run_dir, timeout=10))
        finally:
            await server.stop()

    return asyncio.run(run())


def test_reads(tmp_path: Path) -> None:
    assert served(tmp_path, lambda client: client.get("status")) == STATUS
    assert served(tmp_path, lambda client: client.get("pools")) == []
    assert served(tmp_path, lambda client: client.get("clients")) == FakePort().rows
    assert served(tmp_path, lambda client: client.get("pins")) == []


def test_verbs(tmp_path: Path) -> None:
    port = FakePort()

    def use(client: Client) -> Any:
        client.post("drain", deadline=1.5)
        client.post("drain", deadline=None)
        client.post("undrain")
        client.post("pause", target="10.0.0.1:5432")
        client.post("resume")
        client.post("shutdown", fast=True)
        assert client.post("explain", text="listen c")["outcome"] == "pinned"
        assert client.post("explain", text="", proxy="orders")["statements"] == []
        return client.post("kill", client=129)

    assert served(tmp_path, use, port) == {"text": "client 129 is being disconnected"}
    assert port.asked == [
        ("drain", 1.5),
        ("drain", None),
        ("undrain", None),
        ("pause", "10.0.0.1:5432"),
        ("resume", None),
        ("shutdown", True),
        ("explain", ("listen c", None)),
        ("explain", ("", "orders")),
        ("kill", 129),
    ]


@pytest.mark.parametrize(
    ("verb", "arguments", "status", "reasons"),
    [
        ("pause", {"target": "nowhere:1"}, 409, ["there is no target nowhere:1", "known: 10.0.0.1:5432"]),
        ("reload", {}, 422, ['proxy[0].name = "1": must begin with a letter', "server.x: unknown"]),
        ("kill", {}, 400, ["'client' is required"]),
        ("explain", {}, 400, ["'text' is required"]),
        ("explain", {"proxy": "orders"}, 400, ["'text' is required"]),
        ("explain", {"text": 1}, 400, ["'text' must be str"]),
        ("explain", {"text": "x", "proxy": "nowhere"}, 409, ["no proxy 'nowhere'; known: orders"]),
        ("kill", {"client": "129"}, 400, ["'client' must be int"]),
        ("kill", {"client": True}, 400, ["'client' must be int"]),
        ("shutdown", {"fast": 1}, 400, ["'fast' must be bool"]),
        ("undrain", {"zzz": 1}, 400, ["unknown argument 'zzz'; known: none"]),
        ("zzz", {}, 404, ["POST /v1/zzz: Not Found"]),
        ("status", {}, 405, ["POST /v1/status: Method Not Allowed"]),
    ],
)
def test_refusals(tmp_path: Path, verb: str, arguments: dict[str, Any], status: int, reasons: list[str]) -> None:
    port = FakePort()
    with pytest.raises(AnswerError) as caught:
        served(tmp_path, lambda client: client.post(verb, **arguments), port)
    assert (caught.value.status, list(caught.value.reasons)) == (status, reasons)
    if status in {400, 404, 405}:
        assert port.asked == []


def test_a_bug_is_not_shown_to_the_client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AnswerError, match="its log says why") as caught:
        served(tmp_path, lambda client: client.get("servers"))
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)
    assert "a bug" in caplog.text


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff"])
def test_a_body_that_is_no_object(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(AnswerError, match="must be a JSON object"):
        served(tmp_path, lambda client: client._request("POST", "drain", body))


def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(AnswerError) as caught:
        served(tmp_path, lambda client: client._request("POST", "drain", b"x" * 100_000))
    assert caught.value.status == 413


def test_only_root_and_our_own_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "peer_uid", lambda request: 12345)
    with pytest.raises(AnswerError, match="only root and the user") as caught:
        served(tmp_path, lambda client: client.get("status"))
    assert caught.value.status == 403


def test_the_kernel_says_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    real = admin_server.peer_uid

    def spy(request: Any) -> int | None:
        seen.append(real(request))
        return seen[-1]

    monkeypatch.setattr(admin_server, "peer_uid", spy)
    served(tmp_path, lambda client: client.get("status"))
    assert seen == [os.geteuid()]


def test_the_file(tmp_path: Path) -> None:
    def use(client: Client) -> list[str]:
        found = client.path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
        return [path.name for path in client.path.parent.iterdir()]

    old = os.umask(0)
    try:
        assert served(tmp_path / "deep" / "run", use) == ["control.sock"]
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "deep" / "run").stat().st_mode) == 0o700
    assert list((tmp_path / "deep" / "run").iterdir()) == []


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    assert served(tmp_path, lambda client: client.get("pools")) == []


def test_a_living_proxy_is_not_replaced(tmp_path: Path) -> None:
    async def run() -> None:
        first = await start(FakePort(), tmp_path)
        with pytest.raises(AlreadyServedError, match=r"another proxy serves .*control\.sock"):
            await start(FakePort(), tmp_path)
        assert await asyncio.to_thread(Client(tmp_path).get, "pools") == []
        await first.stop()

    asyncio.run(run())


def test_the_file_of_a_successor_stays(tmp_path: Path) -> None:
    async def run() -> None:
        first = await start(FakePort(), tmp_path)
        first.path.unlink()
        second = await start(FakePort(), tmp_path)
        await first.stop()
        assert await asyncio.to_thread(Client(tmp_path).get, "pools") == []
        await second.stop()
        assert not second.path.exists()

    asyncio.run(run())


def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write"):
        served(open_to_all, lambda client: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="choose another run_dir"):
        served(tmp_path / "file", lambda client: None)


# the client's own failures


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"control\.sock does not exist; see --run-dir"):
        Client(tmp_path).get("status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
        with pytest.raises(UnreachableError, match="no proxy answers"):
            Client(tmp_path).get("status")


def answered_with(run_dir: Path, answer: bytes, use: Callable[[Client], Any], timeout: float = 5.0) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer:
            writer.write(answer)
            await writer.drain()
        else:
            await reader.read()  # silence, until the client gives up
        writer.close()
        await writer.wait_closed()

    async def run() -> Any:
        server = await asyncio.start_unix_server(serve, run_dir / "control.sock")
        asking: Awaitable[Any] = asyncio.to_thread(use, Client(run_dir, timeout))
        try:
            return await asking
        finally:
            server.close()
            await server.wait_closed()

    return asyncio.run(run())


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"SSH-2.0\r\n\r\n"])
def test_somebody_else_there(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(UnreachableError, match=r"control\.sock"):
        answered_with(tmp_path, answer, lambda client: client.get("status"))


def test_no_answer_in_time(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"no answer on .* within 0.05 s"):
        answered_with(tmp_path, b"", lambda client: client.get("status"), timeout=0.05)
