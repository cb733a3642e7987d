"""Logins through real sockets: what a client sees, what the relay gets, and that no way out leaves anything behind."""

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ProxyError
from proxy.model import (
    ClientPasswordAuthType,
    ClientTls,
    ClientTlsMode,
    Credential,
    Endpoint,
    TargetRole,
)
from tests.harness.certs import Authority
from tests.harness.messages import PROTOCOL_3_2, SSL_REQUEST, cancel_request, message, query, startup, terminate
from tests.harness.ports import free_port
from tests.harness.wire import FakeClient, FakeServer, ServerConnection
from tests.integration.dataplane.stage import Stage, run, until


def trusting(connection: ServerConnection) -> None:
    """A database that lets everybody in and waits for the end."""
    connection.accept_login(application_name="")
    connection.at_end()


def silent(connection: ServerConnection) -> None:
    """A database that listens and says nothing."""
    connection.read_startup()
    connection.at_end()


def limits(connection: ServerConnection) -> None:
    """The same, and answers the question for its limits."""
    connection.accept_login()
    from tests.harness.messages import complete, ready, row, row_description

    while connection.read().name == "Query":
        connection.send(row_description("a", "b", "c"), row("200", "3", "0"), complete(), ready())


@pytest.fixture
def database() -> Any:
    with FakeServer(limits) as server:
        yield server


# ---------------------------------------------------------------- in


def test_a_login_ends_at_the_relay(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            client = await stage.client(application_name="me")
            assert client.parameters["server_version"] == "15.0"
            (there,) = stage.relay.clients
            assert there.tls is None
            facts = there.facts
            assert (facts["user"], facts["database"], facts["application"]) == ("app", "test", "me")
            assert facts["cancel_key"] == client.key
            assert len(client.key) == 4
            assert client.pid == facts["slot"] * 128
            assert facts["peer"] == "{}:{}".format(*client.sock.getsockname())
            assert facts["parameters"].count(b"S\0\0") == len(client.parameters)
            assert facts["unread"] == b""
            # the descriptor is open, and nobody else listens to it
            client.send(query("select 1"))
            await until(lambda: bool(os.read(there.fd, 100)))
            assert stage.count("client_connections_setup_succeeded") == 1
            assert stage.count("client_connections_no_tls") == 1
            assert stage.nobody_left()

    run(scene())


def test_the_last_words_come_in_one_write(database: FakeServer) -> None:
    """AuthenticationSASLFinal to ReadyForQuery: one write, one read."""

    async def scene() -> None:
        async with Stage(database) as stage:
            await stage.client()  # now the welcome is known
            client = await stage.connect()
            received: list[bytes] = []
            plain = client.sock.recv

            class Recorder:
                def __getattr__(self, name: str) -> Any:
                    return getattr(sock, name)

                def recv(self, size: int) -> bytes:
                    received.append(plain(size))
                    return received[-1]

            sock, client.sock = client.sock, Recorder()  # type: ignore[assignment]
            await asyncio.to_thread(client.login)
            client.sock = sock
            assert len(received) == 3, [chunk[:20] for chunk in received]
            assert received[-1].startswith(b"R")
            assert received[-1].endswith(b"Z\0\0\0\5I")

    run(scene())


def test_requests_sent_ahead_are_handed_over(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, auth=ClientPasswordAuthType.POSTGRES_MD5) as stage:
            client = await stage.connect()
            client.send(startup())
            salt = (await asyncio.to_thread(client.read)).body[4:]
            from proxy.pgsql.md5 import md5_response

            client.send(message("p", md5_response("app", "apppw", salt) + b"\0"), query("select 1"))
            await asyncio.to_thread(client.read_until, "ReadyForQuery")
            assert stage.relay.clients[0].facts["unread"] == query("select 1")

    run(scene())


def test_requests_sent_while_waiting_are_handed_over(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            stage.relay.opens = 0
            client = await stage.connect()
            login = asyncio.create_task(asyncio.to_thread(client.login))
            await until(lambda: bool(stage.relay.told("want")))
            client.send(query("select 1"), terminate())
            stage.relay.emit("open", 0, 1)
            await login
            assert stage.relay.clients[0].facts["unread"] == query("select 1") + terminate()

    run(scene())


def test_ec58_keys_of_protocol_3_2_are_long(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, auth=ClientPasswordAuthType.POSTGRES_MD5) as stage:
            client = await stage.connect()
            client.send(startup(version=PROTOCOL_3_2))
            salt = (await asyncio.to_thread(client.read)).body[4:]
            from proxy.pgsql.md5 import md5_response

            client.send(message("p", md5_response("app", "apppw", salt) + b"\0"))
            replies = await asyncio.to_thread(client.read_until, "ReadyForQuery")
            (key,) = [reply for reply in replies if reply.name == "BackendKeyData"]
            assert len(key.body) == 36
            assert stage.relay.clients[0].facts["cancel_key"] == key.body[4:]

    run(scene())


def test_ec58_keys_differ(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            keys = {(await stage.client()).key for _ in range(8)}
            assert len(keys) == 8

    run(scene())


def test_slots_are_given_again_when_they_are_free(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            first, second = await stage.client(), await stage.client()
            assert (first.pid, second.pid) == (128, 256)
            stage.relay.emit("client_closed", 1, 1, 0, False, [])
            await until(lambda: stage.count("client_connections_closed") == 1)
            assert stage.count("client_connections") == 1
            assert stage.count("client_connections_no_tls") == 1
            assert (await stage.client()).pid == 128

    run(scene())


def test_a_socket_that_takes_little_at_a_time(database: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over waits for the socket; nothing is handed over before it is out, and nothing is said twice."""
    real, calls = os.write, 0

    def little(fd: int, data: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise BlockingIOError
        return real(fd, data[:7])

    async def scene() -> None:
        async with Stage(database) as stage:
            monkeypatch.setattr("proxy.dataplane.login.os.write", little)
            client = await stage.client()
            assert client.parameters["server_version"] == "15.0"
            await until(lambda: len(stage.relay.clients) == 1)
            with pytest.raises(ConnectionRefusedError, match="28P01 The password that was provided"):
                await stage.client(password="wrong")
            monkeypatch.undo()
            assert calls > 50

    run(scene())


def test_a_client_that_leaves_before_its_answer_is_out(database: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, full = os.write, False

    def blocked(fd: int, data: bytes) -> int:
        if full:
            raise BlockingIOError
        return real(fd, data)

    async def scene() -> None:
        nonlocal full
        async with Stage(database) as stage:
            monkeypatch.setattr("proxy.dataplane.login.os.write", blocked)
            stage.relay.opens = 0
            client = await stage.connect()
            login = asyncio.create_task(asyncio.to_thread(client.login))
            await until(lambda: bool(stage.relay.told("want")))
            full = True
            stage.relay.emit("open", 0, 1)
            await until(lambda: bool(stage.relay.servers))
            assert not stage.relay.clients
            client.sock.shutdown(socket.SHUT_RDWR)
            await until(lambda: stage.count("client_connections") == 0)
            assert not stage.relay.clients
            assert stage.front.doorman.slots.take() == 1, "its number is free again"
            assert stage.front.pools[0].clients == 0
            monkeypatch.undo()
            with pytest.raises((EOFError, ConnectionError)):
                await login

    run(scene())


# ---------------------------------------------------------------- TLS


@pytest.fixture
def tls(authority: Authority) -> ClientTls:
    certificate = authority.issue("localhost")
    return ClientTls(ClientTlsMode.REQUIRE, str(certificate.cert), str(certificate.key), fingerprint="1")


@pytest.mark.parametrize("direct", [False, True])
def test_ec60_tls(database: FakeServer, tls: ClientTls, direct: bool) -> None:
    async def scene() -> None:
        async with Stage(database, tls=tls) as stage:
            client = await stage.connect()
            await asyncio.to_thread(client.start_tls, direct=direct)
            await asyncio.to_thread(client.login)
            (there,) = stage.relay.clients
            assert there.tls is not None
            assert there.facts["tls_on"]
            assert stage.count("client_connections_tls") == 1
            # the session went along: it reads what the client says next
            client.send(query("select 1"))
            await until(lambda: _decrypted(there.tls, there.fd) == query("select 1"))

    run(scene())


def _decrypted(session: Any, fd: int) -> bytes:
    session.feed(os.read(fd, 4096))
    return bytes(session.read())


def test_tls_is_required(database: FakeServer, tls: ClientTls) -> None:
    async def scene() -> None:
        async with Stage(database, tls=tls) as stage:
            client = await stage.connect()
            with pytest.raises(ConnectionRefusedError, match="28000 This RDS Proxy requires TLS connections"):
                await asyncio.to_thread(client.login)
            assert stage.count("client_connections_setup_failed_auth") == 1

    run(scene())


def test_ec60_bytes_behind_an_ssl_request(database: FakeServer, tls: ClientTls) -> None:
    async def scene() -> None:
        async with Stage(database, tls=tls) as stage:
            client = await stage.connect()
            client.send(SSL_REQUEST + startup())
            refusal = await stage.reading(client)
            assert refusal.fields["C"] == "08P01"
            assert refusal.fields["M"] == "received unencrypted data after SSL request"
            assert await asyncio.to_thread(client.at_end)

    run(scene())


def test_a_handshake_that_fails(database: FakeServer, tls: ClientTls) -> None:
    async def scene() -> None:
        async with Stage(database, tls=tls) as stage:
            client = await stage.connect()
            client.send(SSL_REQUEST)
            assert await asyncio.to_thread(client.read_exactly, 1) == b"S"
            client.send(b"this is no ClientHello at all")
            await until(lambda: stage.count("client_connections_setup_failed_auth") == 1)
            client.pending = b""
            await until(stage.nobody_left)

    run(scene())


def test_a_renewed_certificate_is_for_new_logins(database: FakeServer, tls: ClientTls, authority: Authority) -> None:
    async def scene() -> None:
        async with Stage(database, tls=tls) as stage:
            early = await stage.connect()
            await asyncio.to_thread(early.start_tls)
            renewed = authority.issue("renewed")
            await stage.change(
                tls=ClientTls(ClientTlsMode.REQUIRE, str(renewed.cert), str(renewed.key), fingerprint="2")
            )
            await asyncio.to_thread(early.login)
            late = await stage.connect()
            await asyncio.to_thread(late.start_tls)
            seen = [client.sock.getpeercert(True) for client in (early, late)]  # type: ignore[attr-defined]
            assert seen[0] != seen[1]

    run(scene())


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"user": "nobody"}, "28000 This RDS proxy has no credentials for the role nobody. Check the credentials"),
        ({"password": "wrong"}, "28P01 The password that was provided for the role app is wrong."),
        ({"replication": "true"}, "0A000 Feature not supported: RDS Proxy currently doesn't support streaming"),
        ({"user": ""}, "28000 A user name is missing from the connection startup packet."),
        ({"options": "-c x"}, "42601 -c x requires a value"),
    ],
)
def test_refusals(database: FakeServer, words: dict[str, str], error: str) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            with pytest.raises(ConnectionRefusedError) as caught:
                await stage.client(**words)
            assert str(caught.value).startswith(error)
            await until(lambda: stage.count("client_connections") == 0)
            assert stage.nobody_left()
            assert not stage.relay.told("want"), "a stranger opens no connection"
            assert not stage.relay.pools, "and makes no pool"

    run(scene())


def test_no_target_of_that_role(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            readers = Endpoint(0, "default", TargetRole.READ_ONLY, "127.0.0.1", stage.port)
            await stage.change(endpoints=(readers,))
            with pytest.raises(
                ConnectionRefusedError, match="08000 The target group doesn't have any associated read-only"
            ):
                await stage.client()

    run(scene())


def test_too_many_clients(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, max_client_connections=2) as stage:
            await stage.client()
            await stage.client()
            text = "53300 The maximum number of client connections to the proxy exceeded 2."
            with pytest.raises(ConnectionRefusedError, match=text):
                await stage.client()
            stage.relay.emit("client_closed", 1, 1, 0, False, [])
            await until(lambda: stage.count("client_connections") == 1)
            await stage.client()

    run(scene())


def test_too_many_clients_of_all_workers_together(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, workers=2, max_client_connections=2) as stage:
            stage.segment.add(1, "endpoint", 0, "client_connections", 2)
            with pytest.raises(ConnectionRefusedError, match="exceeded 2"):
                await stage.client()

    run(scene())


def test_too_many_half_open_logins(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, max_half_open_logins=3) as stage:
            silent = [await stage.connect() for _ in range(3)]
            await until(lambda: stage.count("client_connections_in_setup") == 3)
            with pytest.raises(ConnectionRefusedError, match="53300 too many connections are logging in"):
                await stage.client()
            silent[0].close()
            await until(lambda: stage.count("client_connections_in_setup") == 2)
            await stage.client()

    run(scene())


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("words", "told"), [(b"", False), (b"\0\0\0", True), (startup()[:-1], True), (startup(), True)]
)
def test_ec14_login_timeout(database: FakeServer, words: bytes, told: bool) -> None:
    async def scene() -> None:
        async with Stage(database, login_timeout=0.2) as stage:
            client = await stage.connect()
            client.send(words)
            if told:
                refusal = await stage.reading(client)
                assert (refusal.fields["C"], refusal.fields["M"]) == (
                    "57014",
                    "canceling authentication due to timeout",
                )
            assert await asyncio.to_thread(client.at_end)
            await until(lambda: stage.count("client_connections") == 0)
            assert stage.nobody_left()

    run(scene())


def test_ec14_the_login_timeout_ends_with_the_login(database: FakeServer) -> None:
    """Who is authenticated and waits for a connection is no longer logging in."""

    async def scene() -> None:
        async with Stage(database, login_timeout=0.3, group={"connection_borrow_timeout": 1.0}) as stage:
            stage.relay.opens = 0
            client = await stage.connect()
            login = asyncio.create_task(asyncio.to_thread(client.login))
            await until(lambda: bool(stage.relay.told("want")))
            await asyncio.sleep(0.4)
            stage.relay.emit("open", 0, 1)
            await login

    run(scene())


def test_each_login_has_its_own_deadline(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, login_timeout=0.3) as stage:
            first = await stage.connect()
            await asyncio.sleep(0.2)
            second = await stage.connect()
            assert await asyncio.to_thread(first.at_end)
            assert stage.count("client_connections_in_setup") == 1
            assert await asyncio.to_thread(second.at_end)
            await until(stage.nobody_left)

    run(scene())


def test_borrow_timeout(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, group={"connection_borrow_timeout": 0.2}) as stage:
            stage.relay.opens = 0
            with pytest.raises(
                ConnectionRefusedError, match=r"08000 Timed-out waiting to acquire database connection\."
            ):
                await stage.client()
            assert not stage.front.pools[0].waiters
            assert len(stage.front.pools) == 0

    run(scene())


def test_a_client_that_leaves_while_it_waits(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            stage.relay.opens = 0
            client = await stage.connect()
            login = asyncio.create_task(asyncio.to_thread(client.login))
            await until(lambda: bool(stage.relay.told("want")))
            assert len(stage.front.pools[0].waiters) == 1
            client.sock.shutdown(socket.SHUT_RDWR)
            await until(lambda: stage.count("client_connections") == 0)
            assert not stage.front.pools[0].waiters
            with pytest.raises((EOFError, ConnectionError)):
                await login

    run(scene())


def test_stop_in_the_middle_of_everything(database: FakeServer) -> None:
    """Half-open logins, a waiter, a connection being opened: the fixture counts what is left."""

    async def scene() -> None:
        with FakeServer(silent) as deaf:
            async with Stage(deaf) as stage:
                await stage.connect()
                client = await stage.connect()
                client.send(startup())
                waiter = await stage.connect()
                login = asyncio.create_task(asyncio.to_thread(waiter.login))
                await until(lambda: deaf.accepted == 1)
                await until(lambda: stage.count("client_connections") == 3)
                await stage.front.stop(True)
                with pytest.raises((EOFError, ConnectionError)):
                    await login
                assert stage.count("client_connections") == 0
                assert stage.relay.told("server_failed") == [(0, 1, 0, b"")], "the permit comes back"

    run(scene())


# ---------------------------------------------------------------- cancel


def test_ec57_cancel_reaches_the_owner(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, workers=3, worker=1) as stage:
            for pid in (5 << 7 | 1, 5 << 7 | 2, 5 << 7 | 3, 0x7FFFFFFF, 1, 2):
                client = await stage.connect()
                client.send(cancel_request(pid, b"abcd"))
                assert await asyncio.to_thread(client.at_end)
            assert stage.relay.told("cancel") == [(5, b"abcd")]
            assert stage.relay.told("cancel_to") == [(2, 5, b"abcd")], "and to nobody who does not exist"
            assert stage.count("cancels_received") == 6

    run(scene())


def test_ec57_cancel_is_heard_when_nobody_else_is(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database, max_client_connections=1) as stage:
            victim = await stage.client()
            client = await stage.connect()
            client.send(cancel_request(victim.pid, victim.key))
            assert await asyncio.to_thread(client.at_end)
            assert stage.relay.told("cancel") == [(1, victim.key)]

    run(scene())


# ---------------------------------------------------------------- drain


def test_drain_and_undrain(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            half_open = await stage.connect()
            half_open.send(startup())
            await until(lambda: stage.count("client_connections_in_setup") == 1)
            await stage.front.handle("drain", {"deadline": 3})
            refusal = await stage.reading(half_open)
            assert (refusal.fields["C"], refusal.fields["M"]) == (
                "57P01",
                "terminating connection due to administrator command",
            )
            assert stage.relay.told("drain") == [(3.0,)]
            with pytest.raises(ConnectionRefusedError):
                await stage.connect()
            await stage.change(idle_client_timeout=5)  # a reload does not open the door again
            with pytest.raises(ConnectionRefusedError):
                await stage.connect()
            await stage.front.handle("undrain", {})
            await stage.client()
            assert stage.relay.told("undrain") == [()]

    run(scene())


def test_a_new_endpoint_during_a_drain_opens_with_the_others(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            await stage.front.handle("drain", {"deadline": 3})
            port = free_port()
            await stage.change(
                endpoints=(*stage.proxy.endpoints, Endpoint(1, "two", TargetRole.READ_WRITE, "127.0.0.1", port))
            )
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(FakeClient, "127.0.0.1", port)
            await stage.front.handle("undrain", {})
            (await asyncio.to_thread(FakeClient, "127.0.0.1", port)).close()

    run(scene())


# ---------------------------------------------------------------- reload (edge case 13)


def _listeners(stage: Stage) -> list[int]:
    return [sock.fileno() for gate in stage.front.doorman.gates.values() for sock in gate.socks]


def test_ec13_a_reload_touches_no_listener_that_did_not_change(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            half_open = await stage.connect()
            half_open.send(startup()[:5])
            before = _listeners(stage)
            await stage.change()
            await stage.change(credentials=(*stage.proxy.credentials, _credential("other", "otherpw")))
            assert _listeners(stage) == before
            half_open.send(startup()[5:])
            assert (await asyncio.to_thread(half_open.read)).name == "Authentication"
            await stage.client(user="other", password="otherpw")

    run(scene())


def test_ec13_a_reload_that_changes_nothing_touches_no_pool(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            await stage.client()
            told = dict(stage.relay.pools)
            stage.relay.pools.clear()
            await stage.change()
            await stage.change(idle_client_timeout=77)
            assert stage.relay.pools == {}
            await stage.change(credentials=(_credential("app", "newpw"),))
            assert stage.relay.pools[0]["gen"] != told[0]["gen"]
            await stage.client(password="newpw")

    run(scene())


def _credential(user: str, password: str) -> Credential:
    return Credential(user, password, ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256)


def test_endpoints_come_and_go(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            first = stage.proxy.endpoints[0]
            second = Endpoint(1, "second", TargetRole.READ_WRITE, "127.0.0.1", free_port())
            before = _listeners(stage)
            await stage.change(endpoints=(first, second))
            assert _listeners(stage)[:1] == before
            client = await asyncio.to_thread(FakeClient, "127.0.0.1", second.port)
            await asyncio.to_thread(client.login)
            client.close()
            await stage.change(endpoints=(first,))
            assert _listeners(stage) == before
            assert stage.relay.told("endpoint_gone") == [(1,)]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(FakeClient, "127.0.0.1", second.port)

    run(scene())


def test_an_endpoint_that_moves_keeps_its_clients(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            stage.port = free_port()
            await stage.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, "127.0.0.1", stage.port),))
            await stage.client()
            assert stage.relay.told("endpoint_gone") == []

    run(scene())


@pytest.mark.parametrize("what", ["address", "certificate", "authority"])
def test_all_or_nothing(database: FakeServer, what: str, tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            before, good = _listeners(stage), stage.proxy
            new = Endpoint(1, "new", TargetRole.READ_WRITE, "127.0.0.1", free_port())
            with socket.create_server(("127.0.0.1", 0)) as taken:
                bad: dict[str, Any]
                if what == "address":
                    there = Endpoint(2, "taken", TargetRole.READ_WRITE, "127.0.0.1", taken.getsockname()[1])
                    bad = {"endpoints": (*good.endpoints, new, there)}
                elif what == "certificate":
                    files = ClientTls(ClientTlsMode.ALLOW, str(tmp_path / "none"), str(tmp_path / "none"))
                    bad = {"endpoints": (*good.endpoints, new), "tls": files}
                else:
                    from proxy.model import ServerTls, SslMode

                    bad = {"endpoints": (*good.endpoints, new)}
                    group = good.target_group
                    bad["target_group"] = type(group)(
                        group.targets, tls=ServerTls(SslMode.VERIFY_FULL, ca_file=str(tmp_path / "none"))
                    )
                with pytest.raises((OSError, ValueError)) as caught:
                    await stage.change(**bad)
                assert not isinstance(caught.value, ProxyError)
            assert _listeners(stage) == before
            with pytest.raises(ConnectionRefusedError):
                await asyncio.to_thread(FakeClient, "127.0.0.1", new.port)
            stage.proxy = good
            await stage.client()

    run(scene())


# ---------------------------------------------------------------- descriptors (edge case 98)


def test_ec98_no_descriptor_left(database: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting pauses instead of spinning, and goes on by itself."""

    async def scene() -> None:
        async with Stage(database) as stage:
            (gate,) = stage.front.doorman.gates.values()
            tries = 0

            class Exhausted:
                def _accept(self) -> Any:
                    nonlocal tries
                    tries += 1
                    raise OSError(24, "Too many open files")

            gate._accept(Exhausted())  # type: ignore[arg-type]
            client = await stage.connect()  # into the backlog
            login = asyncio.create_task(asyncio.to_thread(client.login))
            await asyncio.sleep(0.1)
            assert stage.count("client_connections_received") == 0
            await login
            assert tries == 1

    run(scene())


def test_ec98_descriptors_are_kept_for_servers(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            await stage.client()
            stage.front.doorman.descriptor_ceiling = 3
            with pytest.raises(ConnectionRefusedError, match="53300 too many connections are logging in"):
                await stage.client()
            await until(lambda: stage.count("client_connections") == 1)

    run(scene())


# ---------------------------------------------------------------- addresses


def test_both_families_on_one_endpoint(database: FakeServer) -> None:
    async def scene() -> None:
        async with Stage(database) as stage:
            await stage.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, "::", stage.port),))
            for host in ("127.0.0.1", "::1"):
                client = await asyncio.to_thread(FakeClient, host, stage.port)
                await asyncio.to_thread(client.login)
                client.close()
            assert [client.facts["peer"].rpartition(":")[0] for client in stage.relay.clients] == ["127.0.0.1", "[::1]"]

    run(scene())


def test_unix_socket(database: FakeServer, tls: ClientTls, tmp_path: Path) -> None:
    async def scene() -> None:
        path = str(tmp_path / ".s.PGSQL.5432")
        async with Stage(database, tls=tls) as stage:
            await stage.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, path, 0),))
            client = await asyncio.to_thread(FakeClient, path, 0)
            await asyncio.to_thread(client.login)
            client.close()
            assert stage.relay.clients[0].facts["peer"] == "[local]"
        # stale after a kill -9: the next one takes over
        assert os.path.exists(path)  # noqa: ASYNC240, PTH110
        async with Stage(database) as stage:
            await stage.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, path, 0),))
            client = await asyncio.to_thread(FakeClient, path, 0)
            await asyncio.to_thread(client.login)
            client.close()
            # alive: nobody else may
            async with Stage(database) as other:
                with pytest.raises(OSError, match="another process listens there"):
                    await other.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, path, 0),))

    run(scene())


def test_a_unix_socket_belongs_to_worker_0(database: FakeServer, tmp_path: Path) -> None:
    async def scene() -> None:
        async with Stage(database, workers=2, worker=1) as stage:
            path = tmp_path / ".s.PGSQL.5432"
            await stage.change(endpoints=(Endpoint(0, "default", TargetRole.READ_WRITE, str(path), 0),))
            assert not path.exists()

    run(scene())
