"""What is wrong with a configuration: where (TOML path), which value, and what to do about it in words.

Problems are collected and reported all at once; the same shape carries errors and warnings. Values of unknown keys and
of anything that could be a secret are never shown.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ConfigError", "ConfigErrors", "Loc", "show", "toml_path"]

Loc = tuple[str | int, ...]

_LONGEST = 60


@dataclass(frozen=True, slots=True)
class ConfigError:
    """One problem. `path` like `proxy[0].auth[1].secret`; `value` as TOML would write it, "" if not to be shown."""

    path: str
    value: str
    remedy: str

    def __str__(self) -> str:
        where = " = ".join(part for part in (self.path, self.value) if part)
        return f"{where}: {self.remedy}" if where else self.remedy


class ConfigErrors(Exception):
    """Everything that is wrong with one configuration."""

    def __init__(self, errors: Iterable[ConfigError], source: str = "") -> None:
        self.errors = tuple(errors)
        self.source = source
        super().__init__(self.errors, source)

    def __str__(self) -> str:
        lines = [str(error) for error in self.errors]
        if not self.source:
            return "\n".join(lines)
        count = "1 error" if len(lines) == 1 else f"{len(lines)} errors"
        return "\n".join([f"{self.source}: {count}", *(f"  {line}" for line in lines)])


def toml_path(loc: Loc) -> str:
    """("proxy", 0, "auth", 1, "secret") → "proxy[0].auth[1].secret"."""
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def show(value: object) -> str:
    """A value in TOML's spelling, shortened."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            # JSON's escapes are TOML's
            return json.dumps(value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…", ensure_ascii=False)
        case dict():
            return "{…}" if value else "{}"
        case list() | tuple():
            return f"[{len(value)} items]" if len(value) > 3 else "[" + ", ".join(show(item) for item in value) + "]"
        case _:
            return str(value)
