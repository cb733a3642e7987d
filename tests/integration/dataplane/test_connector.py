"""Opening connections: against fakes for what a server may do wrong, and against real PostgreSQL for what it does
right.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from proxy.dataplane.connector import attempts
from proxy.exchange import Encryption
from proxy.model import ServerTls, SslMode, Target, TargetRole
from proxy.reasons import ConnectFailure
from tests.harness.messages import SSL_REQUEST, complete, error, parameter_status, ready, row, row_description
from tests.harness.postgres import Postgres
from tests.harness.wire import FakeServer, ServerConnection
from tests.integration.dataplane.stage import FakeRelay, Stage, run, until

Script = Callable[[ServerConnection], None]
TEMPORARY, PERMANENT = int(ConnectFailure.CONNECT_TEMPORARY), int(ConnectFailure.CONNECT_PERMANENT)


def trusting(connection: ServerConnection) -> None:
    connection.accept_login()
    while connection.read().name == "Query":
        connection.send(row_description("a", "b", "c"), row("100", "3", "2"), complete(), ready())


def refusing(sqlstate: str, text: str) -> Script:
    def script(connection: ServerConnection) -> None:
        connection.read_startup()
        connection.send(error(sqlstate, text, "FATAL"))

    return script


def in_turn(scripts: Sequence[Script]) -> Script:
    """One script per connection."""
    left = iter(scripts)

    def script(connection: ServerConnection) -> None:
        next(left)(connection)

    return script


async def outcome(stage: Stage) -> tuple[Any, ...]:
    """Of one client that comes: the error it is told."""
    try:
        await stage.client()
    except ConnectionRefusedError as refused:
        return tuple(str(refused).split(" ", 1))
    return ()


# ---------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (SslMode.DISABLE, (Encryption.NONE,)),
        (SslMode.ALLOW, (Encryption.NONE, Encryption.DEMAND)),
        (SslMode.PREFER, (Encryption.OFFER, Encryption.NONE)),
        (SslMode.REQUIRE, (Encryption.DEMAND,)),
        (SslMode.VERIFY_CA, (Encryption.DEMAND,)),
        (SslMode.VERIFY_FULL, (Encryption.DEMAND,)),
    ],
)
def test_libpqs_modes(mode: SslMode, expected: tuple[Encryption, ...]) -> None:
    target = Target(0, "db", 5432, TargetRole.READ_WRITE)
    assert attempts(ServerTls(mode), target) == expected
    assert attempts(ServerTls(mode, sslnegotiation="direct"), target) == (Encryption.DIRECT,)
    assert attempts(ServerTls(mode), Target(0, "/run/postgresql", 5432, TargetRole.READ_WRITE)) == (Encryption.NONE,)


# ---------------------------------------------------------------- failures (edge case 12)


def test_ec12_a_lasting_refusal_is_told_verbatim_and_not_asked_for_again() -> None:
    async def scene() -> None:
        with FakeServer(refusing("28P01", 'password authentication failed for user "app"')) as server:
            async with Stage(server) as stage:
                told = ("28P01", 'password authentication failed for user "app"')
                assert await outcome(stage) == told
                assert await asyncio.gather(*(outcome(stage) for _ in range(5))) == [told] * 5
                assert server.accepted == 1
                ((pool, permit, kind, message),) = stage.relay.told("server_failed")
                assert (pool, permit, kind) == (0, 1, PERMANENT)
                assert b"C28P01\0" in message
                assert stage.count("database_connections_setup_failed", "target") == 1

    run(scene())


def test_ec12_a_passing_refusal_does_not_fail_who_waits() -> None:
    answers = [refusing("57P03", "the database system is starting up"), refusing("53300", "sorry"), trusting]

    async def scene() -> None:
        with FakeServer(in_turn(answers)) as server:
            async with Stage(server) as stage:
                await stage.client()
                assert server.accepted == 3
                assert [kind for _, _, kind, _ in stage.relay.told("server_failed")] == [TEMPORARY] * 2

    run(scene())


def test_ec64_a_refusal_without_sqlstate_is_passing() -> None:
    from tests.harness.messages import message

    def script(connection: ServerConnection) -> None:
        connection.read_startup()
        connection.send(message("E", b"SFATAL\0Mno\0\0"))

    answers = [script, trusting]

    async def scene() -> None:
        with FakeServer(in_turn(answers)) as server:
            async with Stage(server) as stage:
                await stage.client()

    run(scene())


def slam(connection: ServerConnection) -> None:
    connection.read_startup()
    connection.reset()


def babble(connection: ServerConnection) -> None:
    connection.read_startup()
    connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.at_end()


def leave(connection: ServerConnection) -> None:
    connection.read_startup()


@pytest.mark.parametrize("script", [slam, babble, leave])
def test_servers_that_misbehave_are_tried_again(script: Script) -> None:
    answers = [script, trusting]

    async def scene() -> None:
        with FakeServer(in_turn(answers)) as server:
            async with Stage(server) as stage:
                await stage.client()
                assert [kind for _, _, kind, _ in stage.relay.told("server_failed")] == [TEMPORARY]

    run(scene())


def test_connect_timeout() -> None:
    def silent(connection: ServerConnection) -> None:
        connection.read_startup()
        connection.at_end()

    async def scene() -> None:
        with FakeServer(silent) as server:
            async with Stage(server, group={"connect_timeout": 0.2, "connection_borrow_timeout": 0.5}) as stage:
                assert (await outcome(stage))[0] == "08000"
                assert stage.relay.told("server_failed")[0][2] == TEMPORARY

    run(scene())


def test_nobody_listens() -> None:
    async def scene() -> None:
        async with Stage(group={"connection_borrow_timeout": 0.2}) as stage:
            assert await outcome(stage) == ("08000", "Timed-out waiting to acquire database connection.")

    run(scene())


def test_tls_that_the_server_does_not_have() -> None:
    async def scene() -> None:
        with FakeServer(trusting) as server:
            async with Stage(server, server_tls=ServerTls(SslMode.REQUIRE)) as stage:
                text = "Request returned an error: server does not support SSL, but SSL was required."
                assert await outcome(stage) == ("XX000", text)

    run(scene())


def test_prefer_goes_on_without_tls() -> None:
    async def scene() -> None:
        with FakeServer(trusting) as server:
            async with Stage(server, server_tls=ServerTls(SslMode.PREFER)) as stage:
                await stage.client()
                assert server.accepted == 1
                assert stage.relay.servers[0].tls is None

    run(scene())


def test_ec60_a_server_that_sends_behind_its_answer() -> None:
    def script(connection: ServerConnection) -> None:
        connection.read_startup()
        connection.send(b"S" + b"R\0\0\0\x08\0\0\0\0")
        connection.at_end()

    async def scene() -> None:
        with FakeServer(script) as server:
            group = {"connection_borrow_timeout": 0.3}
            async with Stage(server, server_tls=ServerTls(SslMode.PREFER), group=group) as stage:
                assert (await outcome(stage))[0] == "08000"
                assert not stage.relay.servers

    run(scene())


def test_a_cancelled_opening_gives_its_permit_back() -> None:
    def silent(connection: ServerConnection) -> None:
        connection.read_startup()
        connection.at_end()

    async def scene() -> None:
        with FakeServer(silent) as server:
            async with Stage(server) as stage:
                login = asyncio.create_task(outcome(stage))
                await until(lambda: server.accepted == 1)
                await stage.front.connector.stop()
                assert stage.relay.told("server_failed") == [(0, 1, TEMPORARY, b"")]
                stage.relay.emit("open", 0, 2)
                await until(lambda: len(stage.relay.told("server_failed")) == 2)
                assert server.accepted == 1, "who stops opens nothing more"
                stage.front.doorman.close()
                with pytest.raises((EOFError, ConnectionError)):
                    await login

    run(scene())


# ---------------------------------------------------------------- limits


def test_limits_come_from_the_server_itself() -> None:
    async def scene() -> None:
        with FakeServer(trusting) as server:
            async with Stage(
                server, group={"max_connections_percent": 50, "max_idle_connections_percent": 25}
            ) as stage:
                assert stage.segment.limit(0) == 1, "one connection, to ask with"
                await stage.client()
                assert stage.segment.limit(0) == 50
                assert stage.relay.pools[0]["max_idle"] == 25

    run(scene())


@pytest.mark.parametrize(
    ("group", "limit"),
    [
        ({}, 95),  # all but the reserved ones
        ({"max_connections_percent": 95}, 95),
        ({"max_connections_percent": 10}, 10),
        ({"max_connections_percent": 1, "max_idle_connections_percent": 0}, 1),
        ({"max_connections": 7}, 7),
        ({"max_connections": 70, "max_connections_percent": 60}, 60),
    ],
)
def test_limits(group: dict[str, Any], limit: int) -> None:
    async def scene() -> None:
        with FakeServer(trusting) as server:
            async with Stage(server, group=group) as stage:
                await stage.client()
                assert stage.segment.limit(0) == limit

    run(scene())


def test_a_worker_that_comes_later_does_not_lower_the_limit() -> None:
    async def scene() -> None:
        with FakeServer(trusting) as server:
            stage = Stage(server, workers=2, worker=1)
            stage.segment.set_limit(0, 80)
            async with stage:
                assert stage.segment.limit(0) == 80

    run(scene())


def test_a_new_percentage_counts_at_once() -> None:
    async def scene() -> None:
        from dataclasses import replace

        with FakeServer(trusting) as server:
            async with Stage(server) as stage:
                await stage.client()
                await stage.change(target_group=replace(stage.proxy.target_group, max_connections_percent=20))
                assert stage.segment.limit(0) == 20

    run(scene())


# ---------------------------------------------------------------- real PostgreSQL


@pytest.fixture(scope="module", params=["scram-sha-256", "md5", "password", "trust"])
def real(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    settings = {"password_encryption": "md5"} if request.param == "md5" else {}
    with Postgres(auth=request.param, settings=settings) as server:
        yield server


def test_every_method(real: Postgres) -> None:
    async def scene() -> None:
        async with Stage(real) as stage:
            await stage.client(options="-c ignore_system_indexes=on -c work_mem=9MB")
            (there,) = stage.relay.servers
            assert there.facts["backend_pid"] > 0
            assert len(there.facts["cancel_key"]) == 4
            mine = stage.relay.clients[0].facts
            assert mine["parameters"] == there.facts["parameters"]
            # what only a startup packet can set, its server has logged in with; the rest is the client's own
            assert _ask(there.fd, "show ignore_system_indexes") == b"on"
            assert mine["settings"] == parameter_status("work_mem", "9MB")
            assert stage.segment.limit(0) == 197

    run(scene())


def _ask(fd: int, sql: str) -> bytes:
    """One value, over the bare descriptor of a server connection."""
    from tests.harness.wire import Peer, query

    with Peer(socket.socket(fileno=os.dup(fd))) as peer:
        peer.send(query(sql))
        replies = peer.read_until("ReadyForQuery")
    (values,) = [reply.values for reply in replies if reply.name == "DataRow"]
    return values[0] or b""


def test_a_wrong_secret(pg: Postgres) -> None:
    async def scene() -> None:
        from tests.integration.dataplane.test_doorman import _credential

        async with Stage(pg) as stage:
            await stage.change(credentials=(_credential("app", "not the database's"),))
            with pytest.raises(ConnectionRefusedError) as caught:
                await stage.client(password="not the database's")
            assert str(caught.value) == '28P01 password authentication failed for user "app"'

    run(scene())


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ({"database": "nowhere"}, '3D000 database "nowhere" does not exist'),
        ({"no_such_setting": "x"}, '42704 unrecognized configuration parameter "no_such_setting"'),
        ({"post_auth_delay": "x"}, '22023 invalid value for parameter "post_auth_delay": "x"'),
        ({"shared_buffers": "1MB"}, '55P02 parameter "shared_buffers" cannot be changed without restarting the server'),
    ],
)
def test_what_the_database_refuses_the_client_hears(pg: Postgres, words: dict[str, str], refusal: str) -> None:
    async def scene() -> None:
        async with Stage(pg) as stage:
            with pytest.raises(ConnectionRefusedError) as caught:
                await stage.client(**words)
            assert str(caught.value) == refusal

    run(scene())


def test_init_query(pg: Postgres) -> None:
    async def scene() -> None:
        init = "set timezone to 'Asia/Tokyo'; set search_path to a, b; select 1"
        async with Stage(pg, group={"init_query": init}) as stage:
            client = await stage.client()
            assert client.parameters["TimeZone"] == "Asia/Tokyo"
            assert _ask(stage.relay.servers[0].fd, "show search_path") == b"a, b"

    run(scene())


def test_ec12_init_query_that_fails(pg: Postgres) -> None:
    async def scene() -> None:
        group = {"init_query": "select 1/0", "connection_borrow_timeout": 0.3}
        async with Stage(pg, group=group) as stage:
            assert (await outcome(stage))[0] == "08000"
            assert {kind for _, _, kind, _ in stage.relay.told("server_failed")} == {TEMPORARY}

    run(scene())


def test_unix_socket(pg: Postgres) -> None:
    async def scene() -> None:
        class There:
            host, port = str(pg.folder), pg.port

        async with Stage(There) as stage:
            await stage.client()
            assert _ask(stage.relay.servers[0].fd, "select inet_client_addr() is null") == b"t"

    run(scene())


def test_every_address_of_a_name(pg: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edge case 99: the first one does not answer."""

    async def scene() -> None:
        class There:
            host, port = "db.example.com", pg.port

        async with Stage(There) as stage:

            async def resolved(host: str, port: int, **_: Any) -> list[Any]:
                assert host == "db.example.com"
                kind = (socket.SOCK_STREAM, 6, "")
                return [
                    (socket.AF_INET6, *kind, ("::1", 1, 0, 0)),
                    (socket.AF_INET, *kind, ("127.0.0.1", 1)),
                    (socket.AF_INET, *kind, ("127.0.0.1", port)),
                ]

            real, stage.front.loop = stage.front.loop, cast(Any, _Resolving(stage.front.loop, resolved))
            await stage.client()
            stage.front.loop = real
            assert len(stage.relay.servers) == 1

    run(scene())


class _Resolving:
    """The loop, with another resolver."""

    def __init__(self, loop: asyncio.AbstractEventLoop, getaddrinfo: Any) -> None:
        self._loop = loop
        self.getaddrinfo = getaddrinfo

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


# ---------------------------------------------------------------- TLS to PostgreSQL


def _encrypted(relay: FakeRelay) -> list[bool]:
    return [server.tls is not None for server in relay.servers]


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_modes(pg_ssl: Postgres, mode: str, encrypted: bool) -> None:
    async def scene() -> None:
        assert pg_ssl.certificate is not None
        ca = str(pg_ssl.certificate.cert) if mode.startswith("verify") else None
        async with Stage(pg_ssl, server_tls=ServerTls(SslMode(mode), ca_file=ca)) as stage:
            await stage.client()
            assert _encrypted(stage.relay) == [encrypted]
            assert stage.count("database_connection_requests_with_tls", "target") == encrypted

    run(scene())


@pytest.mark.parametrize(
    ("hba", "mode", "encrypted"),
    [
        ("hostssl all all 127.0.0.1/32 scram-sha-256", "allow", True),
        ("hostnossl all all 127.0.0.1/32 scram-sha-256", "prefer", False),
    ],
)
def test_the_other_way_where_the_host_rules_want_it(hba: str, mode: str, encrypted: bool) -> None:
    other = "hostnossl" if encrypted else "hostssl"
    with Postgres(ssl=True, hba=[hba, f"{other} all app 127.0.0.1/32 reject"]) as server:

        async def scene() -> None:
            async with Stage(server, server_tls=ServerTls(SslMode(mode))) as stage:
                await stage.client()
                assert _encrypted(stage.relay) == [encrypted]

        run(scene())


def test_a_certificate_of_somebody_else(pg_ssl: Postgres, authority: Any) -> None:
    async def scene() -> None:
        group = {"connection_borrow_timeout": 0.3}
        tls = ServerTls(SslMode.VERIFY_FULL, ca_file=str(authority.ca))
        async with Stage(pg_ssl, server_tls=tls, group=group) as stage:
            assert (await outcome(stage))[0] == "08000"
            assert not stage.relay.servers

    run(scene())


# ---------------------------------------------------------------- cancel


def test_cancel(pg: Postgres) -> None:
    async def scene() -> None:
        async with Stage(pg) as stage:
            await stage.client()
            await _cancelled(stage)

    run(scene())


def test_ec57_cancel_goes_encrypted_where_its_connection_is(pg_ssl: Postgres) -> None:
    async def scene() -> None:
        async with Stage(pg_ssl, server_tls=ServerTls(SslMode.REQUIRE)) as stage:
            await stage.client()
            server = stage.relay.servers[0]
            assert server.tls is not None
            await _cancelled(stage)

    run(scene())


async def _cancelled(stage: Stage) -> None:
    from tests.harness.messages import query

    server = stage.relay.servers[0]
    said = query("select pg_sleep(30)")
    if server.tls is not None:
        server.tls.write(said)
        said = server.tls.take()
    os.set_blocking(server.fd, True)
    os.write(server.fd, said)
    await asyncio.sleep(0.1)  # the query is on its way; a cancel before it would be for nothing
    stage.relay.emit("cancel", 9, 0, server.facts["backend_pid"], server.facts["cancel_key"])
    await until(lambda: stage.relay.told("cancel_done") == [(9,)])
    answer = await asyncio.to_thread(os.read, server.fd, 4096)
    if server.tls is not None:
        server.tls.feed(answer)
        answer = server.tls.read()
    assert b"C57014\0" in answer


def test_a_cancel_that_reaches_nobody_is_answered(pg: Postgres) -> None:
    async def scene() -> None:
        async with Stage(pg) as stage:
            await stage.client()
            stage.front.pools[0].target = Target(0, "127.0.0.1", 1, TargetRole.READ_WRITE)
            stage.relay.emit("cancel", 9, 0, 12345, b"none")
            await until(lambda: stage.relay.told("cancel_done") == [(9,)])

    run(scene())


def test_ec56_a_storm_of_cancels_is_bounded() -> None:
    cancels: list[bytes] = []

    def script(connection: ServerConnection) -> None:
        first = connection.read_startup()
        assert first.body[:4] != SSL_REQUEST[4:]
        cancels.append(first.body)
        connection.at_end()

    async def scene() -> None:
        with FakeServer(script) as server:
            async with Stage(server) as stage:
                stage.relay.opens = 0
                login = asyncio.create_task(outcome(stage))
                await until(lambda: bool(stage.relay.told("want")))
                for number in range(40):
                    stage.relay.emit("cancel", number, 0, number, b"key!")
                await until(lambda: len(cancels) == 16)
                await asyncio.sleep(0.05)
                assert server.accepted == 16
                await stage.front.connector.stop()
                assert len(stage.relay.told("cancel_done")) == 40
                stage.front.doorman.close()
                with pytest.raises((EOFError, ConnectionError)):
                    await login

    run(scene())
