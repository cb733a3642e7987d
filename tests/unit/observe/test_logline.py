"""Log lines: the form, and that what comes from outside cannot break out of its line."""

import io
import logging
import re
from collections.abc import Iterator

import pytest

from proxy.observe import logline


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logline.install("worker 1", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def test_the_form(stream: io.StringIO) -> None:
    where = {"endpoint": "default", "client": 257, "server": 0}
    logging.getLogger("x").info("A new client connected from %s.", "127.0.0.1:5", extra=where)
    line = stream.getvalue()
    stamp, _, rest = line.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert rest == (
        "[INFO] [worker 1] [proxyEndpoint=default] [clientConnection=257] [dbConnection=0] "
        "A new client connected from 127.0.0.1:5.\n"
    )


def test_what_is_not_known_is_left_out(stream: io.StringIO) -> None:
    logging.getLogger("x").warning("slow", extra={"endpoint": ""})
    assert stream.getvalue().endswith("Z [WARN] [worker 1] slow\n")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x00b", "a\x85b"])
def test_one_record_is_one_line_without_control_characters(stream: io.StringIO, text: str) -> None:
    logging.getLogger("x").info("application_name %s", text, extra={"endpoint": text})
    (line,) = stream.getvalue()[:-1].splitlines()
    assert line.isprintable()


def test_an_exception_stays_in_the_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("it failed")
    (line,) = stream.getvalue().splitlines()
    assert "it failed | Traceback" in line
    assert "ValueError: two" in line


def test_debug_is_off_unless_asked_for(stream: io.StringIO) -> None:
    logging.getLogger("x").debug("details")
    assert stream.getvalue() == ""
    logline.install("worker 1", debug=True, stream=stream)
    logging.getLogger("x").debug("details")
    assert "[DEBUG] [worker 1] details" in stream.getvalue()
