"""The real controller and the real worker, linked, around a front of a few lines: what may die, and what that costs."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.ports import free_port
from tests.harness.processes import children, wait_until
from tests.integration.processes.house import House, ask

CONFIG = """
[server]
workers = 2
run_dir = "run"
drain_timeout = {drain}

[[proxy]]
name = "orders"
engine_family = "POSTGRESQL"

  [[proxy.auth]]
  secret = "file:app.json"

  [proxy.target_group]
  targets = ["127.0.0.1:1", "127.0.0.1:2"]
  sslmode = "disable"
"""
ENDPOINT = """
  [[proxy.endpoint]]
  name = "{name}"
  target_role = "{role}"
  listen = "127.0.0.1:{port}"
"""


class Client:
    """Connected to an endpoint; greeted with the worker's pid and its version."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._lines = self._socket.makefile("rb")
        self.worker, self.version = map(int, self._lines.readline().split())

    def lives(self) -> bool:
        try:
            self._socket.sendall(b"?")
            return self._lines.readline() == b"still here\n"
        except OSError:
            return False

    def last_words(self) -> bytes:
        return self._lines.read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Linked(House):
    def __init__(self, folder: Path, drain: float = 5.0) -> None:
        self.port, self.other_port = free_port(), free_port()
        self.drain_s = drain
        secret = folder / "app.json"
        secret.write_text(json.dumps({"username": "app", "password": "s3cr3t-w0rd"}))
        secret.chmod(0o600)
        super().__init__(folder, "links", self.text(self.port))
        self.clients: list[Client] = []

    def text(self, *ports: int) -> str:
        endpoints = zip(("default", "readers"), ("READ_WRITE", "READ_ONLY"), ports, strict=False)
        return CONFIG.format(drain=self.drain_s) + "".join(
            ENDPOINT.format(name=name, role=role, port=port) for name, role, port in endpoints
        )

    def client(self, port: int | None = None) -> Client:
        client = Client(port or self.port)
        self.clients.append(client)
        return client

    def one_on_each(self) -> list[Client]:
        """Clients until both workers have one."""
        found: dict[int, Client] = {}
        for _ in range(200):
            client = self.client()
            found.setdefault(client.worker, client)
            if len(found) == 2:
                return list(found.values())
        raise AssertionError("one worker takes all")

    def status(self) -> Any:
        code, answer = ask(self.folder / "run", "status")
        assert code == 200
        return answer

    def refuses_connections(self) -> bool:
        try:
            self.client().close()
        except OSError:
            return True
        return False

    def close_clients(self) -> None:
        for client in self.clients:
            client.close()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Linked]:
    linked = Linked(tmp_path)
    with linked:
        yield linked
        linked.close_clients()


def controller_of(linked: Linked) -> int:
    return int(linked.status()["controller"]["pid"])


def workers_of(linked: Linked) -> list[dict[str, Any]]:
    workers: list[dict[str, Any]] = linked.status()["workers"]
    return workers


def test_ready_names_the_endpoints_and_a_client_is_served(linked: Linked) -> None:
    assert linked.ready() == f"sluiceway ready: 2 workers, endpoint orders/default 127.0.0.1:{linked.port}\n"
    assert linked.client().version == 1
    linked.close_clients()
    linked.send(signal.SIGTERM)
    linked.ends(0)
    assert "s3cr3t" not in linked.log()


def test_status(linked: Linked) -> None:
    linked.ready()
    linked.one_on_each()
    status = linked.status()
    assert (status["state"], status["snapshot"], status["pid"]) == ("ready", 1, linked.pid)
    workers = workers_of(linked)
    assert {worker["pid"] for worker in workers} == {client.worker for client in linked.clients}
    assert all(worker["state"] == "ready" and worker["snapshot"] == 1 for worker in workers)
    assert sum(worker["clients"] for worker in workers) == len(linked.clients)
    (endpoint,) = status["endpoints"]
    assert endpoint["clients"] == len(linked.clients)
    assert [target["role"] for target in status["targets"]] == ["READ_WRITE", "READ_ONLY"]


def test_a_killed_controller_costs_nobody_anything(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    old = controller_of(linked)
    # what is on disk now is not what was accepted
    linked.config.write_text("nonsense")
    os.kill(old, signal.SIGKILL)
    assert all(client.lives() for client in clients)
    assert linked.client().lives(), "new clients, too, while there is no controller"
    linked.logged("controller is ready", 2)
    assert controller_of(linked) != old
    assert all(client.lives() for client in clients)
    wait_until(lambda: all(worker["snapshot"] == 1 for worker in workers_of(linked)), 5, "both workers known again")
    assert {worker["pid"] for worker in workers_of(linked)} == {client.worker for client in clients}
    assert [worker["restarts"] for worker in workers_of(linked)] == [0, 0]


def test_a_controller_killed_many_times(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    for life in range(2, 5):
        os.kill(controller_of(linked), signal.SIGKILL)
        linked.logged("controller is ready", life)
    assert all(client.lives() for client in clients)
    wait_until(lambda: all(worker["snapshot"] == 1 for worker in workers_of(linked)), 5, "both workers known again")


def test_a_secret_that_is_gone_when_the_controller_comes_back(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    (linked.folder / "app.json").unlink()
    os.kill(controller_of(linked), signal.SIGKILL)
    linked.logged("controller is ready", 2)
    assert linked.status()["state"] == "ready"
    assert "problems" not in linked.status()
    assert all(client.lives() for client in clients)
    code, answer = ask(linked.folder / "run", "reload", {})
    assert code == 422
    assert "app.json" in str(answer)


def test_a_worker_is_born_again_without_a_controller(linked: Linked) -> None:
    linked.ready()
    os.kill(workers_of(linked)[0]["pid"], signal.SIGKILL)
    linked.logged("worker 0 is ready", 2)
    os.kill(controller_of(linked), signal.SIGSTOP)  # there, and no help
    victim = next(child for child in children(linked.pid) if _name(child) == "sluice worker 0")
    os.kill(victim, signal.SIGKILL)
    linked.logged("worker 0 is ready", 3)
    assert {client.version for client in linked.one_on_each()} == {1}
    stopped = next(child for child in children(linked.pid) if _name(child).startswith("sluice contr"))
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: [worker["snapshot"] for worker in workers_of(linked)] == [1, 1], 5, "known to the controller")


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_killed_worker_costs_its_own_clients_only(linked: Linked) -> None:
    linked.ready()
    victim, survivor = linked.one_on_each()
    os.kill(victim.worker, signal.SIGKILL)
    assert survivor.lives()
    assert not victim.lives()
    index = linked.log().partition(f" is ready (pid {victim.worker})")[0][-1]
    linked.logged(f"worker {index} is ready", 2)
    assert survivor.lives()
    wait_until(lambda: all(worker["snapshot"] == 1 for worker in workers_of(linked)), 5, "the snapshot in the newborn")
    assert sum(worker["restarts"] for worker in workers_of(linked)) == 1
    gauges = [worker["clients"] for worker in workers_of(linked) if worker["pid"] != survivor.worker]
    assert gauges == [0], "the dead one's gauges are cleared"


def test_worker_and_controller_killed_together(linked: Linked) -> None:
    linked.ready()
    victim, survivor = linked.one_on_each()
    os.kill(controller_of(linked), signal.SIGKILL)
    os.kill(victim.worker, signal.SIGKILL)
    linked.logged("controller is ready", 2)
    wait_until(lambda: all(worker["snapshot"] == 1 for worker in workers_of(linked)), 10, "both workers in step")
    assert survivor.lives()
    assert {linked.client().version for _ in range(20)} == {1}


# ---------------------------------------------------------------- reload


def test_hup_applies_what_changed_and_touches_nothing_else(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    linked.config.write_text(linked.text(linked.port, linked.other_port))
    linked.send(signal.SIGHUP)
    linked.logged("endpoint readers added")
    wait_until(lambda: all(worker["snapshot"] == 2 for worker in workers_of(linked)), 5, "version 2")
    assert linked.client(linked.other_port).version == 2
    assert all(client.lives() for client in clients)
    os.kill(controller_of(linked), signal.SIGKILL)
    linked.logged("controller is ready", 2)
    assert len(linked.status()["endpoints"]) == 2, "accepted, so it outlives the controller"


def test_a_reload_without_a_change_changes_nothing(linked: Linked) -> None:
    linked.ready()
    linked.config.write_text(linked.text(linked.port) + "\n# a remark\n")
    assert ask(linked.folder / "run", "reload", {}) == (200, {"snapshot": 1, "changes": []})


@pytest.mark.parametrize("text", ["[[proxy]]\nname = 7\n", "not TOML at all"])
def test_a_reload_with_errors_leaves_everything_as_it_is(linked: Linked, text: str) -> None:
    linked.ready()
    linked.config.write_text(text)
    code, answer = ask(linked.folder / "run", "reload", {})
    assert code == 422
    assert answer["reasons"]
    assert linked.client().version == 1
    linked.send(signal.SIGHUP)
    linked.logged("the old configuration stays in force")
    assert linked.client().version == 1


def test_a_reload_that_a_worker_cannot_follow_is_taken_back(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    linked.tell("unable")
    linked.config.write_text(linked.text(linked.port, linked.other_port))
    code, answer = ask(linked.folder / "run", "reload", {})
    linked.untell("unable")
    assert code == 409
    assert "unable, as told" in answer["error"]
    wait_until(
        lambda: all(worker["snapshot"] == 3 for worker in workers_of(linked)), 5, "the old one under a new number"
    )
    assert len(linked.status()["endpoints"]) == 1
    assert all(client.lives() for client in clients)


def test_a_reload_to_a_port_in_use_reaches_no_worker(linked: Linked) -> None:
    linked.ready()
    client = linked.client()
    with socket.create_server(("127.0.0.1", linked.other_port)):  # somebody else's
        linked.config.write_text(linked.text(linked.port, linked.other_port))
        code, answer = ask(linked.folder / "run", "reload", {})
    assert code == 409
    assert "Address already in use" in answer["error"]
    assert linked.status()["snapshot"] == 1
    assert client.lives()


def test_a_port_in_use_at_the_first_start_cannot_boot(tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    with socket.create_server(("127.0.0.1", linked.port)), linked:
        linked.ends(78)
    assert "Address already in use" in linked.log()
    assert linked.out.read_text() == ""


def test_a_secret_missing_at_the_first_start_cannot_boot(tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    (tmp_path / "app.json").unlink()
    with linked:
        linked.ends(78)
    assert "app.json" in linked.log()


def test_errors_in_the_file_are_printed_and_cannot_boot(tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    linked.config.write_text(linked.config.read_text().replace("POSTGRESQL", "ORACLE"))
    with linked:
        linked.ends(78)
    assert "proxy[0].engine_family" in linked.log()


# ---------------------------------------------------------------- verbs


def test_a_list_larger_than_a_packet_comes_from_every_worker(linked: Linked) -> None:
    linked.ready()
    code, rows = ask(linked.folder / "run", "clients")
    assert code == 200
    assert len(rows) == 2000
    assert {row["worker"] for row in rows} == {0, 1}


def test_standing_orders_reach_a_worker_born_later(linked: Linked) -> None:
    linked.ready()
    run = linked.folder / "run"
    assert ask(run, "pause", {"target": "127.0.0.1:2"})[0] == 200
    assert ask(run, "pause", {"target": "nowhere:5"})[0] == 409
    assert ask(run, "drain", {"deadline": 3})[0] == 200
    assert [target["state"] for target in linked.status()["targets"]] == ["available", "paused"]
    os.kill(controller_of(linked), signal.SIGKILL)
    linked.logged("controller is ready", 2)
    pid = workers_of(linked)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    linked.logged("worker 0 is ready", 2)

    def told() -> dict[int, list[str]]:
        code, rows = ask(run, "pools")
        assert code == 200
        return {row["worker"]: row["told"] for row in rows}

    wait_until(lambda: any(order.startswith("drain") for order in told().get(0, [])), 5, "the order to drain")
    assert told()[0][0] == "pause [('target', 1)]", "before it could open a connection"
    assert linked.status()["state"] == "draining"
    assert ask(run, "undrain", {})[0] == 200
    assert ask(run, "resume", {"target": "127.0.0.1:2"})[0] == 200
    assert linked.status()["state"] == "ready"


def test_kill_reaches_the_worker_that_the_id_names(linked: Linked) -> None:
    linked.ready()
    run = linked.folder / "run"
    assert ask(run, "kill", {"client": (5 << 7) + 1}) == (200, {"killed": (5 << 7) + 1})
    assert ask(run, "kill", {"client": (5 << 7) + 2})[0] == 409
    code, rows = ask(run, "pools")
    assert (code, [row["told"] for row in rows]) == (200, [[], ["kill [('slot', 5)]"]])


# ---------------------------------------------------------------- stop


@pytest.mark.parametrize("fast", [False, True])
def test_an_operator_stops_it(linked: Linked, fast: bool) -> None:
    linked.ready()
    assert ask(linked.folder / "run", "shutdown", {"fast": fast})[0] == 200
    linked.ends(0)
    assert not (linked.folder / "run" / "control.sock").exists()


def test_term_waits_for_clients_and_takes_no_more(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    linked.send(signal.SIGTERM)
    wait_until(linked.refuses_connections, 5, "no more connections")
    assert all(client.lives() for client in clients)
    assert linked.status()["workers"], "the controller can be asked until the end"
    linked.close_clients()
    linked.ends(0)


def test_the_drain_has_a_deadline(tmp_path: Path) -> None:
    linked = Linked(tmp_path, drain=1.0)
    with linked:
        linked.ready()
        clients = linked.one_on_each()
        linked.send(signal.SIGTERM)
        assert all(client.last_words() == b"good bye\n" for client in clients)
        linked.ends(0)
        linked.close_clients()


def test_int_does_not_wait_for_clients(linked: Linked) -> None:
    linked.ready()
    clients = linked.one_on_each()
    linked.send(signal.SIGINT)
    assert all(client.last_words() == b"good bye\n" for client in clients)
    linked.ends(0)


def test_int_hurries_a_drain(linked: Linked) -> None:
    linked.ready()
    (client, _) = linked.one_on_each()
    linked.send(signal.SIGTERM)
    wait_until(linked.refuses_connections, 5, "draining")
    linked.send(signal.SIGINT)
    linked.ends(0, limit_s=3)
    assert client.last_words() == b"good bye\n"
