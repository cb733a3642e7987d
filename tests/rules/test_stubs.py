"""Each compiled module that Python imports has a .pyi beside it, which names what exists, no more and no less."""

import ast
import enum
import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
COMPILED = sorted((ROOT / "proxy").rglob("_*.pyx"))
IMPORTERS = [p for d in ("proxy", "tests", "bench") for p in (ROOT / d).rglob("*.py")]
_FROM_CYTHON = {"__pyx_capi__", "__test__", "__reduce_cython__", "__setstate_cython__", "__pyx_vtable__"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def names_of(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a stub (or a class in it) declares, by name; imported names are not declarations."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.Assign):
            found |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
    return found


def members(cls: type) -> set[str]:
    """Public members of a class that are its own."""
    if issubclass(cls, enum.Enum):
        return set(cls.__members__)
    return {n for n in vars(cls) if not n.startswith("_")}


def differences(stub: ast.Module, module: ModuleType) -> list[str]:
    declared, problems = names_of(stub.body), list[str]()
    for name, node in declared.items():
        if name.startswith("__"):
            continue
        if not hasattr(module, name):
            if not (isinstance(node, ast.ClassDef) and _is_type_only(node)):
                problems.append(f"{name} is declared, but does not exist")
        elif isinstance(node, ast.ClassDef):
            own = getattr(module, name)
            there = {n for n in names_of(node.body) if not n.startswith("_")}
            problems += [f"{name}.{n} is declared, but does not exist" for n in there if not hasattr(own, n)]
            problems += [f"{name}.{n} is not declared" for n in members(own) - there]
    for name, value in vars(module).items():
        public = not name.startswith("_") and name not in _FROM_CYTHON
        if public and getattr(value, "__module__", None) == module.__name__ and name not in declared:
            problems.append(f"{name} is not declared")
    return problems


def _is_type_only(node: ast.ClassDef) -> bool:
    """TypedDicts, Protocols and NamedTuples of a stub exist for the type checker alone."""
    return any(isinstance(b, ast.Name) and b.id in {"TypedDict", "Protocol"} for b in node.bases)


@pytest.mark.parametrize("path", COMPILED, ids=module_name)
def test_stub_fits_module(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    stub = path.with_suffix(".pyi")
    imported = re.compile(
        rf"^\s*(?:import {re.escape(module.__name__)}\b|from {re.escape(module.__name__)} import|"
        rf"from {re.escape(module.__name__.rpartition('.')[0])} import [^\n]*\b{path.stem}\b)",
        re.MULTILINE,
    )
    if not stub.exists():
        users = [str(p.relative_to(ROOT)) for p in IMPORTERS if imported.search(p.read_text())]
        assert not users, f"{stub.relative_to(ROOT)} is missing, and {', '.join(users)} import the module"
        return
    problems = differences(ast.parse(stub.read_text()), module)
    assert not problems, f"{stub.relative_to(ROOT)}: " + "; ".join(problems)


def test_the_rule_can_fail() -> None:
    module = ModuleType("m")
    exec("class Door:\n def feed(self): ...\n def drop(self): ...\ndef free(): ...", vars(module))
    stub = ast.parse("class Door:\n def feed(self) -> int: ...\n def gone(self) -> int: ...\nlost: int")
    module.Door.__module__ = module.free.__module__ = "m"
    assert sorted(differences(stub, module)) == [
        "Door.drop is not declared",
        "Door.gone is declared, but does not exist",
        "free is not declared",
        "lost is declared, but does not exist",
    ]
