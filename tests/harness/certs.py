"""Throw-away certificates: an authority in a folder, and what it signs. Made by the openssl command."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def _openssl(*args: str | Path, stdin: str = "") -> None:
    done = subprocess.run(["openssl", *map(str, args)], check=False, input=stdin, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr}")


@dataclass(frozen=True)
class Certificate:
    cert: Path
    key: Path


class Authority:
    """A certificate authority in `folder`; `ca` is what a verifying peer must trust."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self._key = folder / "ca.crt", folder / "ca.key"
        subject = f"/CN={name}"
        _openssl("req", "-x509", *_NEW_KEY, "-days", "30", "-subj", subject, "-keyout", self._key, "-out", self.ca)

    def issue(self, name: str, *, san: str = "DNS:localhost,IP:127.0.0.1,IP:::1", days: int = 30) -> Certificate:
        """A certificate for `name` (its CN); `san` as openssl writes it, "" for none."""
        cert, key, request = (self.folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        _openssl("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = ["-extfile", "/dev/stdin"] if san else []
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
            "-days", str(days), "-out", cert, *extensions, stdin=f"subjectAltName={san}" if san else "",
        )  # fmt: skip
        request.unlink()
        return Certificate(cert, key)


def self_signed(folder: Path, name: str = "localhost") -> Certificate:
    """One certificate that is its own authority."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    _openssl(
        "req", "-x509", *_NEW_KEY, "-days", "30", "-subj", f"/CN={name}",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1", "-keyout", key, "-out", cert,
    )  # fmt: skip
    return Certificate(cert, key)
