"""Log lines: one line each on stderr, in RDS Proxy's form, with the connection they concern in front.

    2026-11-22T09:30:00.123Z [INFO] [proxyEndpoint=default] [clientConnection=257] A new client connected from …

Modules log through `logging.getLogger(__name__)` and name the connection in `extra`: `endpoint`, `client`,
`server`. What comes from outside is escaped: a client's application_name cannot begin a line of its own. Text
is for people; nothing may depend on it. Secrets are kept out by those who log, not here.
"""

import logging
import sys
import time
from typing import TextIO

_PREFIXES = (
    ("process", "process"),
    ("endpoint", "proxyEndpoint"),
    ("client", "clientConnection"),
    ("server", "dbConnection"),
)
_LEVELS = {logging.WARNING: "WARN", logging.CRITICAL: "FATAL"}


def one_line(text: str) -> str:
    """Control characters become visible; the rest stays."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class LineFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        seconds, fraction = divmod(record.created, 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        parts = [f"{stamp}.{int(fraction * 1000):03d}Z", f"[{_LEVELS.get(record.levelno, record.levelname)}]"]
        for key, label in _PREFIXES:
            value = self.process if key == "process" else getattr(record, key, None)
            if value is not None and value != "":
                parts.append(f"[{one_line(str(value))}]" if key == "process" else f"[{label}={one_line(str(value))}]")
        parts.append(one_line(record.getMessage()))
        if record.exc_info:
            parts.append(
                "| " + " | ".join(one_line(line.strip()) for line in self.formatException(record.exc_info).splitlines())
            )
        return " ".join(parts)


def install(process: str, *, debug: bool = False, stream: TextIO | None = None) -> None:
    """Makes this process log lines; called again after a fork to change the name in them."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(LineFormatter(process))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # each request on the control socket is not news
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
