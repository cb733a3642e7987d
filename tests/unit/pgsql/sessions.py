"""Sessions on the run's PostgreSQL whose settings are looked at from all sides: the referee of replayed settings."""

import psycopg

from proxy.pgsql._settings import SettingsDoor
from tests.harness.postgres import Postgres

CUSTOM = ["my.x", "my.y", "your.z"]
IDENTITY = ["role", "session_authorization"]
# of the moment, or derived from another
_PASSING = {
    "transaction_isolation", "transaction_read_only", "transaction_deferrable", "in_hot_standby", "is_superuser",
}  # fmt: skip
_CHANGEABLE = "context in ('user', 'superuser', 'superuser-backend', 'backend')"
_LOOK = f"select name, setting from pg_settings where {_CHANGEABLE} " + "".join(
    f"union all select '{name}', pg_catalog.current_setting('{name}', true) " for name in CUSTOM + IDENTITY
)
_DONE = {psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.EMPTY_QUERY}

State = dict[str, bytes]


def queries(messages: bytes) -> list[bytes]:
    """The texts of Query messages, and nothing else may be there."""
    found = []
    while messages:
        size = int.from_bytes(messages[1:5]) + 1
        assert messages[:1] == b"Q" and len(messages) >= size and messages[size - 1] == 0
        found.append(messages[5 : size - 1])
        assert b"\0" not in found[-1]
        messages = messages[size:]
    return found


class Session:
    """A session of the superuser's, by simple queries."""

    def __init__(self, pg: Postgres) -> None:
        self.connection = psycopg.connect(pg.dsn(user="postgres"), autocommit=True)

    def run(self, text: bytes) -> bool:
        """True if the server did all of it."""
        return self.connection.pgconn.exec_(text).status in _DONE

    @property
    def said(self) -> str:
        """Its last error."""
        return self.connection.pgconn.error_message.decode("utf-8", "replace")

    def row(self, text: bytes) -> list[bytes | None]:
        result = self.connection.pgconn.exec_(text)
        assert result.ntuples == 1, self.said
        return [result.get_value(0, column) for column in range(result.nfields)]

    def fresh(self) -> None:
        self.run(b"rollback")
        assert self.run(b"discard all"), self.said

    def replay(
        self, want: dict[bytes, bytes], was: dict[bytes, bytes] | None = None, in_transaction: bool = False
    ) -> None:
        count, messages = SettingsDoor.replay(was or {}, want, in_transaction)
        assert count == len(queries(messages))
        for text in queries(messages):
            assert self.run(text), (text, self.said)

    def state(self) -> State:
        """In the session's own encoding. An empty custom setting is as good as none: RESET leads no further."""
        result = self.connection.pgconn.exec_(_LOOK.encode())
        rows = [(result.get_value(row, 0), result.get_value(row, 1) or b"") for row in range(result.ntuples)]
        assert rows, self.said
        return {name.decode().lower(): value for name, value in rows if name and name.decode() not in _PASSING}

    def close(self) -> None:
        self.connection.close()
