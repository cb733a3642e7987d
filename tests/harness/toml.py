"""The proxy's configuration file, written from Python values: no more of TOML than that file uses."""

from collections.abc import Mapping
from pathlib import Path

Value = str | bool | int | float | Path | list[str]


def value(v: object) -> str:
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int | float):
        return repr(v)
    if isinstance(v, list | tuple):
        return "[" + ", ".join(value(item) for item in v) + "]"
    if isinstance(v, Mapping):
        return "{ " + ", ".join(f"{key} = {value(item)}" for key, item in v.items()) + " }"
    text = str(v).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'


def table(header: str, values: Mapping[str, object]) -> str:
    """`header` with its brackets; a value of None leaves its line out."""
    lines = [header, *(f"{key} = {value(v)}" for key, v in values.items() if v is not None)]
    return "\n".join(lines) + "\n"
