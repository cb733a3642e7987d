"""The data plane names no protocol: what it knows of one, it asks through the engine interface."""

import re
from pathlib import Path

DATAPLANE = Path(__file__).parents[2] / "proxy/dataplane"
PROTOCOL = re.compile(r"postgres|pgsql|mysql|mariadb", re.IGNORECASE)


def test_the_data_plane_names_no_protocol() -> None:
    files = [path for path in DATAPLANE.iterdir() if path.suffix in {".py", ".pyi", ".pyx", ".pxd"}]
    assert len(files) > 20
    named = [
        f"{path.name}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PROTOCOL.search(line)
    ]
    assert not named, "\n".join(named)
