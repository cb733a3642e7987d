"""Secrets: from a reference in the configuration to a user name and a password.

`file:PATH` and `env:NAME` hold the JSON that RDS Proxy's secrets hold, `{"username": "…", "password": "…"}`; other keys
(host, port, dbname, engine) are ignored. `arn:…` will come behind the same function. A secret's text is never part of
an error, not even as the context of an exception: a JSON error carries its whole document.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.control.config import Config
from proxy.control.problems import ConfigError, Loc, show, toml_path

__all__ = ["Fetched", "SecretError", "SecretValue", "fetch", "fetch_all"]

LARGEST_SECRET = 65_536  # bytes, as in AWS Secrets Manager
LONGEST_USERNAME = 128
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretError(Exception):
    """A secret that cannot be used; the text says what to do and holds nothing of the secret."""


@dataclass(frozen=True, slots=True)
class SecretValue:
    username: str
    password: str = field(repr=False)
    warning: str = ""  # usable, but the operator should look at it


@dataclass(frozen=True, slots=True)
class Fetched:
    """All secrets of a configuration. One bad secret breaks its own user only, as in RDS Proxy."""

    values: Mapping[str, SecretValue]  # by reference
    errors: tuple[ConfigError, ...] = ()
    warnings: tuple[ConfigError, ...] = ()


def fetch(reference: str, base: Path | None = None) -> SecretValue:
    """The secret behind `file:PATH` (relative to `base`) or `env:NAME`. Raises SecretError."""
    kind, _, rest = reference.partition(":")
    match kind:
        case "file" if rest:
            return _from_file((base or Path()) / rest)
        case "env" if rest:
            return _from_environment(rest)
        case "arn":
            raise SecretError('AWS Secrets Manager comes in a later version; use "file:PATH" or "env:NAME"')
        case _:
            raise SecretError('not a reference to a secret; write "file:PATH" or "env:NAME"')


def fetch_all(config: Config) -> Fetched:
    """Every secret the configuration names, with every problem there is."""
    values: dict[str, SecretValue] = {}
    failed: dict[str, str] = {}
    errors: list[ConfigError] = []
    warnings: list[ConfigError] = []
    for p, proxy in enumerate(config.proxies):
        users: dict[str, Loc] = {}
        for a, auth in enumerate(proxy.auth):
            loc: Loc = ("proxy", p, "auth", a)
            path = toml_path((*loc, "secret"))
            if auth.secret not in values and auth.secret not in failed:
                try:
                    values[auth.secret] = fetch(auth.secret, config.path.parent)
                except SecretError as error:
                    failed[auth.secret] = str(error)
            if auth.secret in failed:
                errors.append(ConfigError(path, show(auth.secret), failed[auth.secret]))
                continue
            value = values[auth.secret]
            if value.warning:
                warnings.append(ConfigError(path, show(auth.secret), value.warning))
            username = auth.username or value.username
            other = users.setdefault(username, loc)
            if other != loc:
                remedy = f"is for the user {show(username)}, as is {toml_path(other)}; keep one secret for each user"
                errors.append(ConfigError(path, show(auth.secret), remedy))
    return Fetched(values, tuple(errors), tuple(warnings))


def _from_environment(name: str) -> SecretValue:
    if not _NAME.fullmatch(name):
        raise SecretError("not the name of an environment variable; write env:NAME")
    text = os.environ.get(name)
    if text is None:
        raise SecretError(f"the environment variable {name} is not set; set it where the proxy is started")
    return _read(text.encode(errors="surrogateescape"), f"the environment variable {name}", "")


def _from_file(path: Path) -> SecretValue:
    try:
        data, mode = _contents(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise SecretError(f"cannot read {path}: {reason}; check the path and its permissions") from None
    warning = f"everybody on this machine can read this secret: chmod 600 {path}" if mode & stat.S_IROTH else ""
    return _read(data, str(path), warning)


def _contents(path: Path) -> tuple[bytes, int]:
    """What the file holds (one byte too many is enough to see that it is too large), and its mode."""
    # without O_NONBLOCK, opening a FIFO would wait for its writer
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretError(f"{path} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST_SECRET + 1), mode
    finally:
        os.close(descriptor)


def _read(data: bytes, where: str, warning: str) -> SecretValue:
    if len(data) > LARGEST_SECRET:
        raise SecretError(f"{where} is larger than {LARGEST_SECRET} bytes; a secret is one small JSON object")
    found = _json(data)
    if not isinstance(found, dict):
        raise SecretError(f'{where} does not hold a JSON object; write {{"username": "…", "password": "…"}}')
    username, password = (_text(found, key, where) for key in ("username", "password"))
    if len(username) > LONGEST_USERNAME:
        raise SecretError(f'"username" in {where} has more than {LONGEST_USERNAME} characters')
    return SecretValue(username, password, warning)


def _json(data: bytes) -> Any:
    """The parsed text, or None: the exception ends here, for it would carry the secret along."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _text(found: dict[str, Any], key: str, where: str) -> str:
    value = found.get(key)
    if value is None:
        raise SecretError(f'"{key}" is missing in {where}; the JSON needs "username" and "password"')
    if not isinstance(value, str):
        raise SecretError(f'"{key}" in {where} must be text in quotes')
    if not value:
        raise SecretError(f'"{key}" in {where} is empty')
    if "\0" in value:
        raise SecretError(f'"{key}" in {where} contains a NUL character')
    try:
        value.encode()
    except UnicodeEncodeError:
        value = ""  # a lone surrogate; out of the handler, so that the exception does not carry the secret
    if not value:
        raise SecretError(f'"{key}" in {where} is not valid Unicode text')
    return value
