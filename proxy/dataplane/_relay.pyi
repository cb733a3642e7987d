from collections.abc import Iterable, Mapping
from typing import Any

from proxy.net._tls import TlsSession
from proxy.reasons import CloseReason, PinReason
from proxy.shm._segment import Segment

class Relay:
    running: bool
    def __init__(
        self,
        segment: Segment,
        worker: int,
        errors: Mapping[CloseReason, bytes] | Mapping[int, bytes],
        refusals: Mapping[int, bytes] = ...,
    ) -> None: ...
    def words(
        self, engine: int, errors: Mapping[CloseReason, bytes], refusals: Mapping[PinReason, bytes]
    ) -> None: ...
    def run(self) -> None: ...
    def pool(
        self,
        pool_id: int,
        target_slot: int,
        *,
        borrow_timeout: float,
        idle_timeout: float,
        life: float,
        max_idle: int,
        database: str,
        gen: int,
        init_opaque: bool = False,
        audit_after: float = 0,
        ignored: Iterable[PinReason] = (),
        refused: Iterable[PinReason] = (),
        max_prepared: int = 256,
    ) -> None: ...
    def pool_remove(self, pool_id: int) -> None: ...
    def limit(self, target_slot: int, limit: int) -> None: ...
    def want(self, pool_id: int) -> None: ...
    def client(
        self,
        fd: int,
        tls: TlsSession | None,
        *,
        slot: int,
        pool_id: int,
        endpoint: int,
        cancel_key: bytes,
        parameters: bytes,
        unread: bytes,
        idle_timeout: float,
        life: float,
        settings: bytes = b"",
        tls_on: bool = False,
        peer: str = "",
        user: str = "",
        database: str = "",
        application: str = "",
        engine: int = 0,
    ) -> None: ...
    def server(
        self,
        fd: int,
        tls: TlsSession | None,
        *,
        pool_id: int,
        permit: int,
        backend_pid: int,
        cancel_key: bytes,
        parameters: bytes,
        unread: bytes,
        settings: bytes = b"",
        engine: int = 0,
    ) -> None: ...
    def server_failed(self, pool_id: int, permit: int, failure: int, error: bytes) -> None: ...
    def cancel(self, slot: int, key: bytes) -> None: ...
    def cancel_to(self, worker: int, slot: int, key: bytes) -> None: ...
    def cancel_done(self, server_id: int) -> None: ...
    def pause(self, target_slot: int = -1) -> None: ...
    def resume(self, target_slot: int = -1) -> None: ...
    def drain(self, deadline_s: float) -> None: ...
    def undrain(self) -> None: ...
    def shutdown(self, fast: bool = True) -> None: ...
    def kill(self, slot: int) -> None: ...
    def endpoint_gone(self, endpoint: int) -> None: ...
    def dump(self, request_id: int, what: str) -> None: ...
    def stop(self) -> None: ...
    @property
    def event_fd(self) -> int: ...
    def events(self) -> list[tuple[Any, ...]]: ...
