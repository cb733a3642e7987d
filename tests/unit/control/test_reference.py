"""The reference manual and the example: every key is in the one, the other is accepted."""

import re
from pathlib import Path

import pytest

from proxy.control import fieldinfo, reference
from proxy.control.config import ConfigErrors, load, parse
from proxy.control.schema import File

ROOT = Path(__file__).parents[3]


def test_the_manual_is_current() -> None:
    message = "run: python -m proxy.control.reference > docs/configuration.md"
    assert (ROOT / "docs/configuration.md").read_text() == reference.generate(), message


def test_every_key_is_explained() -> None:
    text = reference.generate()
    for table in fieldinfo.tables():
        assert f"## `{table.title}`" in text
        for key, field in table.model.model_fields.items():
            assert field.description
            if not fieldinfo.is_model(fieldinfo.kind(field).base):
                assert f"| `{key}` |" in text


def test_the_example_is_accepted_and_shows_every_table() -> None:
    path = ROOT / "deploy/sluiceway.example.toml"
    assert load(path).warnings == ()
    for table in fieldinfo.tables():
        assert table.title in path.read_text()


def test_every_example_in_the_schema_is_valid() -> None:
    for table in fieldinfo.tables():
        for key in table.model.model_fields:
            loc = (*table.name.split("."), key)
            field = fieldinfo.find(loc)
            assert field is not None
            assert field.examples
            if fieldinfo.is_model(fieldinfo.kind(field).base):
                continue
            table.model.__pydantic_validator__.validate_assignment(
                table.model.model_construct(), key, field.examples[0]
            )
    assert fieldinfo.find(("proxy", 0, "zzz")) is None
    assert fieldinfo.keys(()) == list(File.model_fields)


@pytest.mark.parametrize("line", re.findall(r"^\| [^|]+ \| `([^`]+: [^`…]+)` \|$", reference.TAIL, re.MULTILINE))
def test_the_errors_in_the_manual_are_real(line: str) -> None:
    text = """
[[proxy]]
name = "orders"
engine_family = "POSTGRESQL"
idle_client_timeout = "30"
max_connections_percent = 3
RequireTLS = true
require_tls = true
  [[proxy.auth]]
  secret = "hunter2"
  client_password_auth_type = "MYSQL_NATIVE_PASSWORD"
  [proxy.target_group]
  targets = ["db:5432"]
  max_connections_percent = 0
  connection_borrow_timout = 3
  [[proxy.endpoint]]
  name = "default"
  listen = "0.0.0.0:5432"
  [[proxy.endpoint]]
  name = "readers"
  target_role = "READ_ONLY"
  listen = "0.0.0.0:5432"
"""
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "/nowhere/proxy.toml")
    assert line in [str(error) for error in caught.value.errors]
