"""docs/configuration.md, written from the schema: `python -m proxy.control.reference` prints it, a test compares.

The prose around the tables lives here as well, so that there is one text to keep true.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from proxy.control import fieldinfo
from proxy.control.problems import show
from proxy.control.schema import MAX_ENDPOINTS, MAX_EXTRA_ENDPOINTS, MAX_SECRETS, MAX_TARGETS

HEAD = f"""# Configuration

<!-- Generated from proxy/control/schema.py by `python -m proxy.control.reference`: do not edit. -->

One TOML file. Names and ranges are RDS Proxy's, in snake_case. `sluiceway check FILE` reads it as the proxy would, with
all secrets and certificates, and prints every error at once: where, which value, what to do. SIGHUP or
`sluiceway ctl reload` applies a changed file; with any error in it, everything stays as it is. `workers`, `run_dir` and
`metrics_listen` take effect after a restart. A complete example is `deploy/sluiceway.example.toml`.

- Unknown keys are errors, and a key that is nearly right is told which one was meant.
- Numbers and booleans have no quotes: `90`, `true`. Text has: `"orders"`. Seconds may have fractions.
- Relative paths start at the directory of the file.
- Limits: {MAX_SECRETS} secrets and {MAX_EXTRA_ENDPOINTS} endpoints (beside the one called `default`) for each proxy;
  {MAX_ENDPOINTS} endpoints and {MAX_TARGETS} targets in one file.

"""

TAIL = """## Secrets

`file:PATH` and `env:NAME` hold what a secret of RDS Proxy holds, a JSON object; keys other than these two are ignored:

```json
{"username": "app", "password": "…"}
```

One secret is one database user; a secret that cannot be read is an error at `sluiceway check`, and breaks its own user
only in a running proxy. `username` in `[[proxy.auth]]` wins over the secret's. A file that everybody may read is
accepted with a warning: `chmod 600`. No message, log or view ever contains a password.

## Targets

The first of `targets` is the writer, which `READ_WRITE` endpoints reach; all others are readers, which `READ_ONLY`
endpoints reach. A Unix socket is written as its directory and port, `/run/postgresql:5432`, as libpq does.

## What `check` says

| Mistake | Error |
|---|---|
| a value out of range | `proxy[0].target_group.max_connections_percent = 0: must be from 1 to 100 percent` |
| a number in quotes | `proxy[0].idle_client_timeout = "30": must be a number from 1 to 28,800 seconds, without quotes` |
| a misspelt key | `proxy[0].target_group.connection_borrow_timout: unknown key; did you mean "connection_borrow_timeout"?` |
| a key in the wrong table | `proxy[0].max_connections_percent: unknown key here; it belongs into [proxy.target_group]` |
| RDS Proxy's spelling | `proxy[0].RequireTLS: unknown key; did you mean "require_tls"?` |
| TLS without a certificate | `proxy[0].tls.cert_file: require_tls = true needs a certificate: set cert_file and key_file in [proxy.tls]` |
| a reader endpoint without a reader | `proxy[0].endpoint[1].target_role = "READ_ONLY": needs a reader: add a second address to targets (the first one is the writer)` |
| an address used twice | `proxy[0].endpoint[1].listen = "0.0.0.0:5432": proxy[0].endpoint[0].listen listens there already; choose another port` |
| a MySQL mechanism for PostgreSQL | `proxy[0].auth[0].client_password_auth_type = "MYSQL_NATIVE_PASSWORD": is not for POSTGRESQL; use "POSTGRES_SCRAM_SHA_256" or "POSTGRES_MD5"` |
| a password in the file | `proxy[0].auth[0].secret: write "file:PATH" or "env:NAME"; the secret itself does not belong in this file` |
| AWS, MySQL | `… comes in a later version; …` with what to write until then |
"""  # noqa: E501 - rows of a table cannot be broken

TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def generate() -> str:
    return HEAD + "".join(_table(table) for table in fieldinfo.tables()) + TAIL


def _table(table: fieldinfo.Table) -> str:
    lines = [
        f"## `{table.title}`",
        "",
        table.about,
        "",
        "| Key | Type and range | Default | RDS Proxy | Meaning |",
        "|---|---|---|---|---|",
        *_rows(table),
    ]
    return "\n".join(lines) + "\n\n"


def _rows(table: fieldinfo.Table) -> Iterator[str]:
    for key, field in table.model.model_fields.items():
        found = fieldinfo.kind(field)
        if fieldinfo.is_model(found.base):
            continue
        loc = (*table.name.split("."), key)
        cells = [f"`{key}`", _type(loc, field, found), _default(field), _rds(field), field.description or ""]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _extra(field: FieldInfo) -> dict[str, Any]:
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _type(loc: tuple[str, ...], field: FieldInfo, found: fieldinfo.Kind) -> str:
    if get_origin(found.base) is not None or issubclass(found.base, Enum):
        text = ", ".join(f'`"{each}"`' for each in fieldinfo.choices(loc))
    else:
        span = fieldinfo.span(field)
        characters = " characters" if found.base is str and span else ""
        text = f"{TYPES[found.base]}{',' if span else ''}{span}{characters}"
    return f"list of {text}" if found.many else text


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    said = _extra(field).get("default_text")
    if said:
        return str(said)
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if value is None:
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{show(value)}`"


def _rds(field: FieldInfo) -> str:
    name = _extra(field).get("rds")
    return f"`{name}`" if name else "–"


if __name__ == "__main__":
    print(generate(), end="")
