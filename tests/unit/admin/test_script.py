"""Psql scripts: where statements end, what is no SQL, and that the size of the pieces read makes no difference."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.admin import script as script_module
from proxy.admin import source as source_module
from proxy.admin.script import COMMANDS, DATA, INCLUDED, Script
from proxy.admin.source import Source


def read(text: bytes, longest: int = 1 << 20) -> tuple[list[tuple[int, bytes]], Script]:
    script = Script(Source(io.BytesIO(text), longest), longest)
    return [(found.line, found.text) for found in script], script


@pytest.fixture(params=[None, 1, 7], ids=["whole", "pieces of 1", "pieces of 7"])
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(script_module, "_PIECE", request.param)
        monkeypatch.setattr(source_module, "HEAD", max(request.param, 3))
        monkeypatch.setattr(script_module, "_BATCH", 3)


CASES: dict[bytes, list[tuple[int, bytes]]] = {
    b"": [],
    b" \n-- nothing\n;;\n": [],
    b"a;b;\nc": [(1, b"a"), (1, b"b"), (2, b"c")],
    b"\xef\xbb\xbfa": [(1, b"a")],
    b"\n\na\n b ;\r\nc;\r\n": [(3, b"a\n b"), (5, b"c")],
    b"a /* ; \n */ ; -- ;\nb": [(1, b"a"), (3, b"b")],
    b"select ';\n', $$;$$, $x$;\n$$;$x$, \";\", e'\\';'; b": [
        (1, b"select ';\n', $$;$$, $x$;\n$$;$x$, \";\", e'\\';'"),
        (3, b"b"),
    ],
    b"select 'a'\n'b;'; c": [(1, b"select 'a'\n'b;'"), (2, b"c")],
    b"create rule r as on update to t do also (a;\n b); c": [
        (1, b"create rule r as on update to t do also (a;\n b)"),
        (2, b"c"),
    ],
    b"create function f() begin atomic a; b; end; c": [(1, b"create function f() begin atomic a; b; end"), (1, b"c")],
    # backslash commands
    b"\\set x 1\na;\n\\echo 'it''s; b'\nc;": [(2, b"a"), (4, b"c")],
    b"a \\g\nb \\gset p_\nc\\gx\nd": [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"d")],
    b"a $1 \\bind x \\g\nb": [(1, b"a $1"), (2, b"b")],
    b"a \\r\nb;": [(2, b"b")],
    b"a\n\\echo x;\nb;": [(1, b"a\n" + b" " * 8 + b"\nb")],
    b"a \\; b;\nc": [(1, b"a  ; b"), (2, b"c")],
    b"a \\: b;": [(1, b"a  : b")],
    b"select :'x', :\"y\", :z;": [(1, b"select :'x', :\"y\", :z")],
    b"select '\\g'; \\q": [(1, b"select '\\g'")],
    b"\\": [],
    b"a\\": [(1, b"a")],
    # data
    b"copy t from stdin;\n1\t'\n;\n\\.\na;": [(1, b"copy t from stdin"), (5, b"a")],
    b"COPY t (a, b) FROM STDIN WITH (format csv);\n\\.\n\na;": [
        (1, b"COPY t (a, b) FROM STDIN WITH (format csv)"),
        (4, b"a"),
    ],
    b"copy t from stdin; a;\n1\n\\.\nb;": [(1, b"copy t from stdin"), (3, b"a"), (4, b"b")],  # is sent behind the data
    b"copy t from stdin \\g\n1\n\\.\r\nb;": [(1, b"copy t from stdin"), (4, b"b")],
    b"copy t from stdin;\n1\n2": [(1, b"copy t from stdin")],
    b"copy t from stdin;": [(1, b"copy t from stdin")],
    b"\\copy t from stdin\n'\n\\.\nb": [(4, b"b")],
    b"a\n\\copy t from stdin\n1\n2\n\\.\nb;\nc;": [(1, b"a\n" + b" " * 18 + b"\n\n\n\nb"), (7, b"c")],
    b"\\copy t from 'file'\nb": [(2, b"b")],
    b"copy t to stdout;\nb": [(1, b"copy t to stdout"), (2, b"b")],
    b"copy (select a from stdin) to stdout;\nb": [(1, b"copy (select a from stdin) to stdout"), (2, b"b")],
    # how strings are read
    b"a'\\'; SET standard_conforming_strings = off; select '\\';'; set standard_conforming_strings to on; '\\'; b": [
        (1, b"a'\\'"),
        (1, b"SET standard_conforming_strings = off"),
        (1, b"select '\\';'"),
        (1, b"set standard_conforming_strings to on"),
        (1, b"'\\'"),
        (1, b"b"),
    ],
    b"select set_config('Standard_Conforming_Strings', 'off', false); '\\';'; b": [
        (1, b"select set_config('Standard_Conforming_Strings', 'off', false)"),
        (1, b"'\\';'"),
        (1, b"b"),
    ],
    # what has no end
    b"a;\nselect 'b;\nc;": [(1, b"a"), (2, b"select 'b;\nc;")],
    b"a; /* b;": [(1, b"a"), (1, b"/* b;")],
    b"a\0b;\0": [(1, b"a\0b"), (1, b"\0")],
}


@pytest.mark.usefixtures("_pieces")
@pytest.mark.parametrize("text", CASES, ids=repr)
def test_statements(text: bytes) -> None:
    found, script = read(text)
    assert found == CASES[text]
    assert script.problem == ""


PARTS = [
    *[
        b"a",
        b";",
        b"(",
        b")",
        b"'",
        b"''",
        b'"',
        b"$$",
        b"$a$",
        b"e'",
        b"\\'",
        b"--",
        b"/*",
        b"*/",
        b"\n",
        b" ",
        b"\\;",
    ],
    *[b"copy t from stdin", b"\n\\.\n", b"\\g\n", b"\\echo x\n", b"\\r\n", b"\\copy t from stdin\n", b"\r\n", b"\\"],
    *[b"create function f() ", b" begin ", b" end ", b" case ", b"set standard_conforming_strings = off;"],
]


@given(st.lists(st.sampled_from(PARTS), max_size=20), st.integers(1, 9))
@settings(max_examples=300, deadline=None)
def test_the_size_of_the_pieces_makes_no_difference(parts: list[bytes], size: int) -> None:
    text = b"".join(parts)
    whole, script = read(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script_module, "_PIECE", size)
        patch.setattr(script_module, "_BATCH", size)
        patch.setattr(source_module, "HEAD", size)
        again, other = read(text)
    assert again == whole
    assert other.skipped == script.skipped


def test_what_is_skipped_is_said() -> None:
    _, script = read(b"\\i a.sql\n\\set x\na;\ncopy t from stdin;\n1\n2\n\\.\n\\copy t from stdin\n3\n\\.\n")
    assert script.skipped == {COMMANDS: 3, INCLUDED: 1, DATA: 3}


def test_what_is_too_long_is_not_read() -> None:
    body = b"x" * 300_000
    found, script = read(b"a;\n$$" + body + b"$$;\nb;", longest=200_000)
    assert found == [(1, b"a")]
    assert script.problem == "line 2: longer than 200000 bytes: not read from here on"
    found, script = read(b"a;\n'" + body + b"';\nb;")
    assert [line for line, _ in found] == [1, 2, 3]


def test_many_commands_and_blocks_take_no_time() -> None:
    text = b"\\echo x\nselect 1;\ncopy t from stdin;\n1\n\\.\n" * 20_000
    found, script = read(text)
    assert len(found) == 40_000
    assert found[-1] == (5 * 20_000 - 2, b"copy t from stdin")
    assert script.skipped == {COMMANDS: 20_000, DATA: 20_000}


def test_a_statement_with_many_commands_in_it_takes_no_time() -> None:
    found, _ = read(b"select 1,\n" + b"\\echo x\n1, \\; \n" * 50_000 + b"2;\nb", longest=1 << 24)
    assert [line for line, _ in found] == [1, 100_003]


@pytest.mark.parametrize(
    "text",
    [
        b"SET client_encoding = 'Shift_JIS_2004';\n",
        b"set names sjis;\n",
        b"select set_config('client_encoding', 'GBK', false);\n",
        b"\\encoding BIG5\n",
    ],
)
@pytest.mark.usefixtures("_pieces")
def test_what_would_be_misread_is_not_read(text: bytes) -> None:
    found, script = read(b"a;\n" + text + b"listen b;\n")
    assert b"listen b" not in [text for _, text in found]
    assert script.problem.startswith("line 2: client_encoding is ") and script.problem.endswith("not read from here on")
    _, script = read(b"set client_encoding = 'EUC_JP'; \\encoding UTF8\n")
    assert script.problem == ""


@pytest.mark.parametrize("back", [b"reset standard_conforming_strings", b"reset all", b"discard all"])
def test_a_reset_makes_strings_standard_again(back: bytes) -> None:
    found, _ = read(b"set standard_conforming_strings = off; " + back + b"; select 'a\\'; listen b; --';\n")
    assert [text for _, text in found][2:] == [b"select 'a\\'", b"listen b"]
