"""Generated files are what their generators write today."""

from pathlib import Path

from proxy.shm import fields

ROOT = Path(__file__).parents[2]


def test_fields_pxd_is_current() -> None:
    committed = (ROOT / "proxy/shm/_fields.pxd").read_text()
    assert fields.generate() == committed, "run `python -m proxy.shm.fields` and commit the result"
