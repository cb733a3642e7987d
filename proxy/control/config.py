"""From the text of the configuration file to a checked `Config`, or to everything that is wrong with it at once.

`parse` reads TOML, has pydantic judge single values (`schema`), then runs the rules between values (`checks`). So that
one mistake does not hide the others, a wrong value is replaced by a stand-in for the second part, and rules that would
look at it stay silent. Relative paths in the file start at the file's own directory.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.control import addresses, fieldinfo
from proxy.control.checks import Checker
from proxy.control.problems import ConfigError, ConfigErrors, Loc, show, toml_path
from proxy.control.rundir import default_run_dir
from proxy.control.schema import FOREIGN_KEYS, File, ProxySection, ServerSection

__all__ = ["Config", "ConfigError", "ConfigErrors", "load", "needs_restart", "parse"]

LARGEST_FILE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that can be served."""

    path: Path
    text: str
    server: ServerSection
    proxies: tuple[ProxySection, ...]
    warnings: tuple[ConfigError, ...] = ()

    def resolve(self, name: str) -> Path:
        """A path in the file, made absolute."""
        return self.path.parent / name

    @property
    def run_dir(self) -> Path:
        return self.resolve(self.server.run_dir) if self.server.run_dir else default_run_dir()

    @property
    def metrics_listen(self) -> addresses.Address | None:
        listen = self.server.metrics_listen
        return addresses.parse(listen) if listen else None


def load(path: str | Path) -> Config:
    """Read and parse a file; what cannot be read is a ConfigErrors too."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        remedy = f"cannot read the file: {error.strerror}; check the path and its permissions"
        raise ConfigErrors([ConfigError(str(path), "", remedy)], str(path)) from None
    if len(data) > LARGEST_FILE:
        remedy = f"the file is larger than {LARGEST_FILE // 1024 // 1024} MiB"
        raise ConfigErrors([ConfigError(str(path), "", remedy)], str(path))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        remedy = f"is not UTF-8 in line {line}; save the file as UTF-8"
        raise ConfigErrors([ConfigError(str(path), "", remedy)], str(path)) from None
    return parse(text, path)


def parse(text: str, path: str | Path) -> Config:
    """The configuration in `text`, as read from `path`. Raises ConfigErrors with every error there is."""
    path = Path(path).absolute()
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors([_syntax_error(str(error))], str(path)) from None
    errors, bad, file = _validate(data)
    warnings: tuple[ConfigError, ...] = ()
    if file is not None:
        checker = Checker(file, path.parent, bad)
        checker.run()
        errors += checker.errors
        warnings = tuple(checker.warnings)
    if errors or file is None:
        raise ConfigErrors(sorted(errors, key=lambda error: _natural(error.path)), str(path))
    return Config(path, text, file.server, tuple(file.proxy), warnings)


def needs_restart(old: Config, new: Config) -> list[str]:
    """Changes that a reload cannot make, in words."""
    names = ("workers", "run_dir", "metrics_listen")
    changes = ((name, getattr(old.server, name), getattr(new.server, name)) for name in names)
    return [
        f"server.{name}: {show(before) or 'default'} → {show(after) or 'default'} takes effect after a restart"
        for name, before, after in changes
        if before != after
    ]


def _syntax_error(text: str) -> ConfigError:
    # tomllib says what and where; the usual causes deserve more than its words
    remedy = f"not valid TOML: {text[:1].lower()}{text[1:]}"
    if "Cannot overwrite" in text or "Cannot declare" in text:
        remedy += "; a table or key may appear once, and lists of tables have double brackets: [[proxy]]"
    elif "Invalid value" in text:
        remedy += '; text needs quotes: name = "orders"'
    return ConfigError("", "", remedy)


def _validate(data: dict[str, Any]) -> tuple[list[ConfigError], set[Loc], File | None]:
    """Judge single values. Wrong ones are reported and replaced, until what is left is valid."""
    errors: list[ConfigError] = []
    bad: set[Loc] = set()
    for _ in range(8):  # a stand-in is valid, so two or three rounds do; the bound is for mistakes in `schema`
        try:
            return errors, bad, File.model_validate(data)
        except ValidationError as invalid:
            for detail in invalid.errors(include_url=False):
                loc: Loc = detail["loc"]
                # below a stand-in everything is ours
                if not any(loc[: len(known)] == known for known in bad):
                    errors.append(_explain(loc, detail))
                    bad.add(loc)
                _replace(data, loc)
    return errors, bad, None


def _replace(data: Any, loc: Loc) -> None:
    """Put the schema's example where a value is wrong or missing; remove what is unknown."""
    for part in loc[:-1]:
        data = data[part]
    last = loc[-1]
    example = fieldinfo.example(loc)
    if example is None or (isinstance(last, str) and fieldinfo.find(loc) is None):
        del data[last]
    else:
        data[last] = example


def _explain(loc: Loc, detail: ErrorDetails) -> ConfigError:
    kind, value = detail["type"], detail["input"]
    if kind == "missing":
        example = show(fieldinfo.example(loc))
        last = loc[-1]
        table = isinstance(fieldinfo.example(loc), dict)
        remedy = (
            f"is required; add a [{fieldinfo.header(loc)}] table" if table else f"is required; add {last} = {example}"
        )
        return ConfigError(toml_path(loc), "", remedy)
    if kind == "extra_forbidden":
        return ConfigError(toml_path(loc), "", _unknown_key(loc))
    return ConfigError(toml_path(loc), _visible(loc, value), _remedy(kind, loc, value, detail))


def _visible(loc: Loc, value: object) -> str:
    """The value, unless it could be a secret that was written in the wrong place."""
    if loc[-1] == "secret" and not (isinstance(value, str) and value.startswith(("file:", "env:", "arn:"))):
        return ""
    return show(value)


def _remedy(kind: str, loc: Loc, value: object, detail: ErrorDetails) -> str:
    match kind:
        case "value_error":  # from our own validators, which say it all
            return str(detail["ctx"]["error"])
        case "enum" | "literal_error":
            return _not_one_of(loc, value)
        case "list_type":
            if fieldinfo.is_table(loc):
                return f"must be a list of tables: write [[{fieldinfo.header(loc)}]] with double brackets"
            return f"must be a list: {loc[-1]} = {show(fieldinfo.example(loc) or ['…'])}"
        case "model_type" | "model_attributes_type" | "dict_type":
            if isinstance(value, list):
                return f"there is only one: write [{fieldinfo.header(loc)}] with single brackets"
            return f"must be a table: write [{fieldinfo.header(loc)}]"
        case "bool_type":
            return "must be true or false, without quotes"
        case "int_type" | "int_from_float":
            return f"must be a whole number{fieldinfo.limits(loc)}, without quotes"
        case "float_type":
            return f"must be a number{fieldinfo.limits(loc)}, without quotes"
        case "string_type":
            return f"must be text in quotes: {_assignment(loc)}"
        case "string_pattern_mismatch":
            return "must be letters, digits and single hyphens, beginning with a letter and not ending with a hyphen"
        case "string_too_short" | "too_short" if not fieldinfo.limits(loc):
            return "is empty; remove the key, or give it a value"
        case "string_too_short" | "string_too_long" | "too_short" | "too_long":
            return f"must have{fieldinfo.limits(loc)} characters"
        case _:  # ranges, and finite_number
            return f"must be{fieldinfo.limits(loc)}"


def _assignment(loc: Loc) -> str:
    example = show(fieldinfo.example(loc))
    return f"{loc[-1]} = {example}" if isinstance(loc[-1], str) else example


def _not_one_of(loc: Loc, value: object) -> str:
    allowed = fieldinfo.choices(loc)
    listed = " or ".join(f'"{each}"' for each in allowed)
    if isinstance(value, str):
        if value == "SQLSERVER":
            return f"SQL Server is not covered; use {listed}"
        for each in allowed:
            if value.lower() == each.lower():
                return f'spell it "{each}": case matters'
        close = difflib.get_close_matches(value.upper(), [each.upper() for each in allowed], 1)
        if close:
            guess = next(each for each in allowed if each.upper() == close[0])
            return f'must be {listed}; did you mean "{guess}"?'
    return f"must be {listed}, in quotes"


def _unknown_key(loc: Loc) -> str:
    name = str(loc[-1])
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().replace("-", "_")
    known = fieldinfo.keys(loc[:-1])
    if snake in known:
        return f'unknown key; did you mean "{snake}"?'
    if snake in FOREIGN_KEYS:
        return f"unknown key; {FOREIGN_KEYS[snake]}"
    elsewhere = fieldinfo.tables_with(snake)
    if elsewhere:
        return f"unknown key here; it belongs into {' or '.join(elsewhere)}"
    close = difflib.get_close_matches(snake, known, 1, cutoff=0.6)
    if close:
        return f'unknown key; did you mean "{close[0]}"?'
    return f"unknown key; known here: {', '.join(known)}"


def _natural(path: str) -> list[tuple[int, str]]:
    """Sorts proxy[10] behind proxy[9]."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]
