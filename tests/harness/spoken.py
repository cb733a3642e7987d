"""Messages as people write them: `Parse s1 'select $1'` for a client, `ErrorResponse 22P02` for a server.

The words behind a name are its fields, the interesting ones first; quotes as in a shell; `x*1000` is a thousand x.
`half` and `rest` in front of a message are its two halves; `raw 5100` are bytes in hexadecimal.

The proxy's own requests: `Replay work_mem=1MB search_path=[a][b] -role` sets two and resets one, in a transaction of
its own unless `inside` stands in front; `Ask a b` asks for values; `Audit listen cursor` what is left of these (`Audit
thorough listen` for changed settings, too). Answers: `Replayed 'SET|RESET'`, `Answered 1MB`, `Audited listen
settings=a,b`.
"""

import re
import shlex
import struct
from collections.abc import Callable

from proxy.pgsql._leftovers import LeftoversDoor
from proxy.reasons import pin_reason
from tests.harness import messages as m


def _words(text: str) -> list[str]:
    return [(w[0] * int(w[2:]) if re.fullmatch(r".\*\d+", w) else w) for w in shlex.split(text)]


def _named(words: list[str]) -> tuple[list[str], dict[str, str]]:
    pairs = dict(w.split("=", 1) for w in words if re.match(r"(portal|limit|settings)=", w))
    return [w for w in words if not re.match(r"(portal|limit|settings)=", w)], pairs


def _bind(*words: str) -> bytes:
    plain, named = _named(list(words))
    return m.bind(*plain[1:], statement=plain[0] if plain else "", portal=named.get("portal", ""))


def _execute(*words: str) -> bytes:
    _, named = _named(list(words))
    return m.execute(named.get("portal", ""), int(named.get("limit", "0")))


def _replay(*words: str) -> bytes:
    """As _settings.pyx would write it, for values without quotes and backslashes."""
    said = []
    for word in words:
        name, equals, value = word.partition("=")
        quoted = ".".join(f'"{part}"' for part in name.removeprefix("-").split("."))
        if word in {"-role", "-session_authorization"}:
            said.append(f"RESET {word[1:].upper().replace('_', ' ')};")
        elif equals:
            elements = value[1:-1].split("][") if value.startswith("[") else [value]
            said.append(f"SET {quoted} TO " + ",".join(f"'{one}'" for one in elements) + ";")
        elif word != "inside":
            said.append(f"RESET {quoted};")
    text = "".join(said)
    return m.query(text if "inside" in words else f"BEGIN;{text}COMMIT")


def _ask(*names: str) -> bytes:
    return m.query("SELECT " + ",".join(f"pg_catalog.current_setting('{name}',true)" for name in names))


_AUDITED = ("advisory_lock", "temporary_object", "listen", "cursor", "prepared_sql", "prepared_protocol")


def _audit(*words: str) -> bytes:
    return LeftoversDoor.ask([pin_reason(word) for word in words if word != "thorough"], "thorough" in words)


def _audited(*words: str) -> bytes:
    plain, named = _named(list(words))
    left: list[str | None] = ["t" if reason in plain else "f" for reason in _AUDITED]
    columns = m.row_description(*["exists"] * len(_AUDITED), "string_agg")
    return columns + m.row(*left, named.get("settings")) + m.complete("SELECT 1") + m.ready()


_CLIENT: dict[str, Callable[..., bytes]] = {
    "Query": m.query,
    "Parse": lambda name, sql: m.parse(sql, name),
    "Bind": _bind,
    "Execute": _execute,
    "Describe": lambda what, name="": m.describe(what, name),
    "Close": lambda what, name="": m.close(what, name),
    "Sync": m.sync,
    "Flush": m.flush,
    "Terminate": m.terminate,
    "CopyData": lambda text="": m.copy_data(text.encode()),
    "CopyDone": m.copy_done,
    "CopyFail": lambda why="": m.copy_fail(why),
    "FunctionCall": lambda oid="1598": m.message("F", struct.pack("!IhhH", int(oid), 0, 0, 0)),
    "Replay": _replay,
    "Ask": _ask,
    "Audit": _audit,
}


def _error(*words: str) -> bytes:
    severity = "FATAL" if words[0] == "FATAL" else "ERROR"
    state, *text = words[1:] if words[0] == "FATAL" else words
    return m.error(state, text[0] if text else "made up", severity)


_SERVER: dict[str, Callable[..., bytes]] = {
    "ParseComplete": lambda: m.message("1"),
    "BindComplete": lambda: m.message("2"),
    "CloseComplete": lambda: m.message("3"),
    "NoData": lambda: m.message("n"),
    "PortalSuspended": lambda: m.message("s"),
    "EmptyQueryResponse": lambda: m.message("I"),
    "ParameterDescription": lambda *oids: m.message("t", struct.pack(f"!H{len(oids)}I", len(oids), *map(int, oids))),
    "RowDescription": m.row_description,
    "DataRow": m.row,
    "CommandComplete": lambda tag="SELECT 1": m.complete(tag),
    "ReadyForQuery": m.ready,
    "ErrorResponse": _error,
    "NoticeResponse": m.notice,
    "ParameterStatus": m.parameter_status,
    "CopyInResponse": lambda: m.message("G", b"\0\0\0"),
    "CopyOutResponse": lambda: m.message("H", b"\0\0\0"),
    "CopyBothResponse": lambda: m.message("W", b"\0\0\0"),
    "CopyData": lambda text="": m.copy_data(text.encode()),
    "CopyDone": m.copy_done,
    "Replayed": lambda tags="SET", status="I": (
        b"".join(m.complete(tag) for tag in ["BEGIN", *tags.split("|"), "COMMIT"]) + m.ready(status)
    ),
    "Answered": lambda *values: (
        m.row_description(*["current_setting"] * len(values))
        + m.row(*(None if v == "NULL" else v for v in values))
        + m.complete("SELECT 1")
        + m.ready()
    ),
    "Audited": _audited,
    "FunctionCallResponse": lambda value="": m.message("V", struct.pack("!i", len(value)) + value.encode()),
}


def _say(words: list[str], book: dict[str, Callable[..., bytes]]) -> bytes:
    if words[0] in {"half", "rest"}:
        whole = _say(words[1:], book)
        middle = max(len(whole) // 2, 1)
        return whole[:middle] if words[0] == "half" else whole[middle:]
    if words[0] == "raw":
        return bytes.fromhex("".join(words[1:]))
    return book[words[0]](*words[1:])


def by_client(text: str) -> bytes:
    return _say(_words(text), _CLIENT)


def by_server(text: str, own_pid: int = 0) -> bytes:
    words = _words(text)
    if words[0] == "NotificationResponse":
        pid = own_pid if words[1] == "own" else int(words[1])
        return m.notification(pid, words[2], words[3] if len(words) > 3 else "")
    return _say(words, _SERVER)
