"""Imports point down only: the layers of docs/architecture.md, read from the text of every .py, .pyx and .pxd alike."""

import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "proxy"

# Bottom up. Those of one layer do not know each other, except the vocabulary at the bottom and the roots at the top.
LAYERS = [
    "errors reasons _reasons model",
    "_wire exchange",
    "sql shm net",
    "pgsql mysql",
    "dataplane control",
    "engines",
    "observe",
    "admin",
    "supervisor controller worker",
]
RANK = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
TOP = len(LAYERS) - 1
IMPORT = re.compile(r"^\s*(?:from\s+proxy\s+c?import\s+\(?\s*([\w, ]+)|(?:from|c?import)\s+proxy\.(\w+))", re.MULTILINE)

# The command line starts the supervisor: an executable's entry point lies above everything, wherever its file is.
ENTRY_POINTS = {("admin/cli.py", "supervisor")}

Edge = tuple[str, str, str]


def edges() -> Iterator[Edge]:
    """(file, its part, the part it imports); a file of proxy/ itself that is no part (`__init__`) imports nothing."""
    for path in sorted(p for p in PACKAGE.rglob("*") if p.suffix in {".py", ".pyx", ".pxd"}):
        where = path.relative_to(PACKAGE)
        part = where.parts[0].split(".")[0]
        for several, one in IMPORT.findall(path.read_text()):
            for name in (several or one).split(","):
                yield str(where), part, name.split()[0]


def points_up(source: str, target: str) -> bool:
    if source == target or RANK[source] == TOP:
        return False
    return RANK[target] >= max(1, RANK[source])


def test_every_part_has_a_layer() -> None:
    parts = {p.name.split(".")[0] for p in PACKAGE.iterdir() if p.suffix != ".so" and p.suffix != ".c"}
    assert parts - {"__init__", "__main__", "__pycache__", "py"} <= RANK.keys()


def test_imports_point_down() -> None:
    known = [e for e in edges() if e[1] in RANK and e[2] in RANK]
    assert len(known) > 5, "the expression that finds imports finds none"
    bad = [f"{f}: {src} -> {dst}" for f, src, dst in known if points_up(src, dst) and (f, dst) not in ENTRY_POINTS]
    assert not bad, "\n".join(bad)


def test_engines_know_no_socket() -> None:
    assert not [e for e in edges() if e[1] in {"sql", "pgsql", "mysql"} and e[2] in {"net", "shm"}]


def test_the_two_protocols_do_not_know_each_other() -> None:
    assert not [e for e in edges() if {e[1], e[2]} == {"pgsql", "mysql"}]


def test_the_rule_can_fail() -> None:
    assert points_up("pgsql", "dataplane")
    assert points_up("sql", "net")
    assert not points_up("dataplane", "pgsql")
    found = IMPORT.findall("from proxy.net._tls cimport Tls\nfrom proxy import shm\ncimport proxy.sql._lex\n")
    assert found == [("", "net"), ("shm", ""), ("", "sql")]
