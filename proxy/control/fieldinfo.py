"""Looks a place of the configuration up in the schema: its limits, choices, example, and the tables around it.

Only reads `schema`; used by error messages and by the reference manual, so that both say what is really checked.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.control.problems import Loc
from proxy.control.schema import File


@dataclass(frozen=True, slots=True)
class Kind:
    """A field's type, taken apart."""

    base: Any  # str, int, float, bool, an enum, a Literal, a model
    many: bool  # a list of them
    metadata: tuple[Any, ...]  # limits and validators, ours and those of the Annotated around the base


def kind(field: FieldInfo) -> Kind:
    metadata = list(field.metadata)
    base, many = field.annotation, False
    while True:
        origin = get_origin(base)
        if origin is Annotated:
            base, *more = get_args(base)
            metadata += more
        elif origin in {Union, UnionType}:
            base = next(arg for arg in get_args(base) if arg is not type(None))
        elif origin is list:
            (base,), many = get_args(base), True
        else:
            flat = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
            return Kind(base, many, tuple(flat))


def is_model(base: Any) -> bool:
    return isinstance(base, type) and issubclass(base, BaseModel)


def find(loc: Loc) -> FieldInfo | None:
    """The field at `loc`, or that of the list which `loc` is an item of."""
    model: Any = File
    field: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int):
            continue
        if not is_model(model) or part not in model.model_fields:
            return None
        field = model.model_fields[part]
        model = kind(field).base
    return field


def example(loc: Loc) -> Any:
    """A valid value for this place. An item of a list gets one of its own, so that it is nobody's duplicate."""
    field = find(loc)
    if field is None or not field.examples:
        return None
    value = field.examples[0]
    if isinstance(loc[-1], int):
        if loc[-2] == "targets":
            return f"stand-in-{'-'.join(map(str, loc))}:1".replace("_", "-")
        return value[0] if value else {}
    return value


def is_table(loc: Loc) -> bool:
    field = find(loc)
    return field is not None and is_model(kind(field).base)


def header(loc: Loc) -> str:
    """The name of the table at `loc` as the file writes it: proxy.target_group."""
    return ".".join(str(part) for part in loc if isinstance(part, str))


def keys(loc: Loc) -> list[str]:
    """The keys of the table at `loc`."""
    field = find(loc)
    model = kind(field).base if field else File
    return list(model.model_fields) if is_model(model) else []


def choices(loc: Loc) -> list[str]:
    field = find(loc)
    if field is None:
        return []
    base = kind(field).base
    if get_origin(base) is Literal:
        return [str(each) for each in get_args(base)]
    return [str(each.value) for each in base] if isinstance(base, type) and issubclass(base, Enum) else []


def number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def limits(loc: Loc) -> str:
    """Like " from 1 to 100 percent", " up to 63"; "" if there are none."""
    field = find(loc)
    return span(field) if field else ""


def span(field: FieldInfo) -> str:
    found: dict[str, Any] = {}
    for each in kind(field).metadata:
        for name in ("ge", "le", "min_length", "max_length"):
            if getattr(each, name, None) is not None:
                found[name] = getattr(each, name)
    low = found.get("ge", found.get("min_length"))
    high = found.get("le", found.get("max_length"))
    extra = field.json_schema_extra
    unit = f" {extra['unit']}" if isinstance(extra, dict) and extra.get("unit") else ""
    if low is not None and high is not None:
        return f" from {number(low)} to {number(high)}{unit}"
    if high is not None:
        return f" up to {number(high)}{unit}"
    if low == 1 and kind(field).base is str:
        return ""  # "not empty" goes without saying
    return f" at least {number(low)}{unit}" if low is not None else ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the file, for whoever lists them all."""

    name: str  # proxy.auth
    many: bool
    about: str
    model: type[BaseModel]

    @property
    def title(self) -> str:
        return f"[[{self.name}]]" if self.many else f"[{self.name}]"


@cache
def tables() -> tuple[Table, ...]:
    return tuple(_tables(File, ""))


def _tables(model: type[BaseModel], prefix: str) -> Iterator[Table]:
    for name, field in model.model_fields.items():
        found = kind(field)
        if is_model(found.base):
            yield Table(prefix + name, found.many, field.description or "", found.base)
            yield from _tables(found.base, f"{prefix}{name}.")


def tables_with(key: str) -> list[str]:
    """The tables that have this key, as the file writes them; tables within tables do not count."""
    return [
        table.title
        for table in tables()
        if key in table.model.model_fields and not is_model(kind(table.model.model_fields[key]).base)
    ]
