"""Secrets: RDS Proxy's JSON from files and the environment; what is wrong is said, the secret itself never."""

import json
import os
import traceback
from pathlib import Path

import pytest

from proxy.control.config import Config, parse
from proxy.control.secrets import SecretError, SecretValue, fetch, fetch_all

PASSWORD = "correct horse battery staple"
GOOD = json.dumps({"username": "app", "password": PASSWORD})


def secret_file(folder: Path, text: str | bytes, name: str = "app.json") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(0o600)
    return path


def config_with(folder: Path, *auth: str) -> Config:
    tables = "".join(f"[[proxy.auth]]\n{each}\n" for each in auth)
    text = (
        f'[[proxy]]\nname = "p"\nengine_family = "POSTGRESQL"\n{tables}[proxy.target_group]\ntargets = ["db:5432"]\n'
        '[[proxy.endpoint]]\nname = "default"\nlisten = "127.0.0.1:21304"\n'
    )
    return parse(text, folder / "proxy.toml")


def test_file_relative_and_absolute(tmp_path: Path) -> None:
    path = secret_file(tmp_path, GOOD)
    assert fetch("file:app.json", tmp_path) == fetch(f"file:{path}") == SecretValue("app", PASSWORD)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_SECRET", GOOD)
    assert fetch("env:APP_SECRET") == SecretValue("app", PASSWORD)


def test_other_keys_are_ignored(tmp_path: Path) -> None:
    rds = {"engine": "postgres", "host": "x", "port": 5432, "dbname": "d", "username": "app", "password": PASSWORD}
    secret_file(tmp_path, "\ufeff" + json.dumps(rds))
    assert fetch("file:app.json", tmp_path) == SecretValue("app", PASSWORD)


def test_a_link_is_followed(tmp_path: Path) -> None:
    # Kubernetes mounts secrets as links, and turns the link when they change
    secret_file(tmp_path, GOOD, "..data")
    (tmp_path / "app.json").symlink_to("..data")
    assert fetch("file:app.json", tmp_path).username == "app"


def test_the_password_is_not_in_the_repr() -> None:
    assert PASSWORD not in repr(SecretValue("app", PASSWORD))


BAD = [
    ("", "does not hold a JSON object"),
    (PASSWORD, "does not hold a JSON object"),
    (f'"{PASSWORD}"', "does not hold a JSON object"),
    (f'["{PASSWORD}"]', "does not hold a JSON object"),
    (f'{{"username": "app", "password": "{PASSWORD}"', "does not hold a JSON object"),
    (b'{"username": "app", "password": "\xff"}', "does not hold a JSON object"),
    ("[" * 50_000, "does not hold a JSON object"),
    (f'{{"password": "{PASSWORD}"}}', '"username" is missing'),
    ('{"username": "app"}', '"password" is missing'),
    ('{"username": "app", "password": null}', '"password" is missing'),
    ('{"username": "app", "password": 12345678}', '"password" in .* must be text in quotes'),
    (f'{{"username": ["app"], "password": "{PASSWORD}"}}', '"username" in .* must be text in quotes'),
    ('{"username": "app", "password": ""}', '"password" in .* is empty'),
    (f'{{"username": "", "password": "{PASSWORD}"}}', '"username" in .* is empty'),
    (f'{{"username": "app", "password": "{PASSWORD}\\u0000"}}', "NUL"),
    (f'{{"username": "app", "password": "{PASSWORD}\\ud800"}}', "not valid Unicode"),
    (json.dumps({"username": "u" * 129, "password": PASSWORD}), "more than 128 characters"),
    (json.dumps({"username": "app", "password": PASSWORD * 4000}), "larger than 65536 bytes"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_bad_content(tmp_path: Path, text: str | bytes, words: str) -> None:
    secret_file(tmp_path, text)
    with pytest.raises(SecretError, match=words) as caught:
        fetch("file:app.json", tmp_path)
    everything = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in everything
    assert "12345678" not in str(caught.value)
    # a JSON error holds its whole document: it must not hang on behind
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("file:none.json", "cannot read .*none.json: No such file"),
        ("file:.", "not a regular file"),
        ("file:a\0b", "not a path"),
        ("env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("env:a b", "not the name of an environment variable"),
        ("arn:aws:secretsmanager:eu-west-1:1:secret:x", 'later version; use "file:PATH" or "env:NAME"'),
        ("hunter2", 'write "file:PATH" or "env:NAME"'),
        ("file:", 'write "file:PATH"'),
    ],
)
def test_bad_reference(tmp_path: Path, reference: str, words: str) -> None:
    with pytest.raises(SecretError, match=words) as caught:
        fetch(reference, tmp_path)
    assert "hunter2" not in str(caught.value)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.json", 0o600)
    with pytest.raises(SecretError, match="not a regular file"):
        fetch("file:app.json", tmp_path)


def test_readable_for_everybody_is_a_warning(tmp_path: Path) -> None:
    path = secret_file(tmp_path, GOOD)
    path.chmod(0o640)
    assert fetch(f"file:{path}").warning == ""
    path.chmod(0o644)
    assert f"chmod 600 {path}" in fetch(f"file:{path}").warning
    fetched = fetch_all(config_with(tmp_path, 'secret = "file:app.json"'))
    assert [warning.path for warning in fetched.warnings] == ["proxy[0].auth[0].secret"]


def test_fetch_all_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    secret_file(tmp_path, GOOD)
    fetched = fetch_all(config_with(tmp_path, 'secret = "file:none"', 'secret = "file:app.json"', 'secret = "env:NO"'))
    assert list(fetched.values) == ["file:app.json"]
    assert [error.path for error in fetched.errors] == ["proxy[0].auth[0].secret", "proxy[0].auth[2].secret"]


def test_one_user_has_one_secret(tmp_path: Path) -> None:
    secret_file(tmp_path, GOOD)
    secret_file(tmp_path, GOOD, "other.json")
    twice = config_with(tmp_path, 'secret = "file:app.json"', 'secret = "file:other.json"')
    (error,) = fetch_all(twice).errors
    assert (error.path, 'for the user "app"' in error.remedy) == ("proxy[0].auth[1].secret", True)
    renamed = config_with(tmp_path, 'secret = "file:app.json"', 'secret = "file:other.json"\nusername = "other"')
    assert fetch_all(renamed).errors == ()
