"""A controller that writes down what it was asked."""

from typing import Any

from proxy.admin import explained
from proxy.admin.port import RefusedError, Row, Status
from proxy.control.problems import ConfigError, ConfigErrors
from proxy.sql.explain import explain
from proxy.sql.rds import rds

STATUS: Status = {
    "version": "9.9",
    "pid": 4711,
    "uptime": 7265.0,
    "snapshot": 3,
    "state": "ready",
    "config": "/etc/orders.toml",
    "workers": [
        {"worker": 0, "pid": 10, "state": "ready", "snapshot": 3, "clients": 2, "servers": 1, "restarts": 0},
        {"worker": 1, "pid": None, "state": "dead", "snapshot": 0, "clients": 0, "servers": 0, "restarts": 4},
    ],
    "endpoints": [
        {
            "proxy": "orders",
            "endpoint": "default",
            "role": "READ_WRITE",
            "listen": "0.0.0.0:6432",
            "clients": 2,
            "waiting": 1,
        }
    ],
    "targets": [
        {
            "proxy": "orders",
            "target": "10.0.0.1:5432",
            "role": "READ_WRITE",
            "connections": 1,
            "borrowed": 1,
            "pinned": 0,
            "limit": 20,
            "state": "available",
        }
    ],
    "problems": ["worker 1 was restarted 4 times"],
}


class FakePort:
    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.pinned: list[Row] = []
        self.rows: list[Row] = [
            {"id": 129, "slot": 1, "user": "ann", "state": "idle", "age_ms": 65_000, "pin": None, "tls": True}
        ]

    async def status(self) -> Status:
        return STATUS

    async def pools(self) -> list[Row]:
        return []

    async def clients(self) -> list[Row]:
        return self.rows

    async def servers(self) -> list[Row]:
        raise RuntimeError("a bug, with a secret in it")

    async def pins(self) -> list[Row]:
        return self.pinned

    async def explain(self, text: str, proxy: str | None = None) -> Row:
        self.asked.append(("explain", (text, proxy)))
        if proxy == "nowhere":
            raise RefusedError("no proxy 'nowhere'; known: orders")
        sql = text.encode()
        return {"proxy": proxy or "orders", **explained.row(explain(sql), rds(sql))}

    async def drain(self, deadline: float | None = None) -> Row:
        self.asked.append(("drain", deadline))
        return {"draining": True, "clients": 2}

    async def undrain(self) -> Row:
        self.asked.append(("undrain", None))
        return {}

    async def pause(self, target: str | None = None) -> Row:
        self.asked.append(("pause", target))
        if target == "nowhere:1":
            raise RefusedError("there is no target nowhere:1", "known: 10.0.0.1:5432")
        return {"paused": [target or "all"]}

    async def resume(self, target: str | None = None) -> Row:
        self.asked.append(("resume", target))
        return {}

    async def reload(self) -> Row:
        self.asked.append(("reload", None))
        errors = [
            ConfigError("proxy[0].name", '"1"', "must begin with a letter"),
            ConfigError("server.x", "", "unknown"),
        ]
        raise ConfigErrors(errors, "/etc/orders.toml")

    async def shutdown(self, fast: bool = False) -> Row:
        self.asked.append(("shutdown", fast))
        return {}

    async def kill(self, client: int) -> Row:
        self.asked.append(("kill", client))
        return {"text": f"client {client} is being disconnected"}
