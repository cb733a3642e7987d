"""Where statements end; and the door to the tokens."""

import pytest

from proxy.sql._lex import Dialect
from proxy.sql._tokens import Kind, tokens
from proxy.sql.gist import Gist, gist
from proxy.sql.split import split


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        (b"", []),
        (b" ;; ; -- x\n", []),
        (b"/* a */ select 1 /* b */ ; select 2", [b"select 1", b"select 2"]),
        (b"select ';', \";\", $$;$$, $a$;$$;$a$, e'\\';' -- ;\n; b", [None, b"b"]),
        (b"create rule r as on update to t do also (a; b); c", [None, b"c"]),
        (b"select [1; 2", [b"select [1", b"2"]),
        (b"a ); b", [b"a )", b"b"]),
        (b"create function f() returns int begin atomic a; b; end; c", [None, b"c"]),
        (b"create or replace procedure p() begin atomic select case when a then b end; end; c", [None, b"c"]),
        (b"create function f() returns int as 'x' language sql; c", [None, b"c"]),
        (b"create table t (begin int); c", [None, b"c"]),
        (b"begin; end; c", [b"begin", b"end", b"c"]),
        (b"a; select 'b; c", [b"a", b"select 'b; c"]),
        (b"a; /* b", [b"a", b"/* b"]),
    ],
)
def test_statements(text: bytes, statements: list[bytes | None]) -> None:
    found = [text[piece.start : piece.stop] for piece in split(text)]
    assert len(found) == len(statements)
    assert [part for part, whole in zip(found, statements, strict=True) if whole and part != whole] == []


def test_statements_of_other_sessions() -> None:
    text = b"select '\\'; a; b'; c"
    assert len(split(text)) == 3
    assert len(split(text, std_strings=False)) == 2
    assert len(split(b"select `;`; b # ;", dialect=Dialect.MYSQL)) == 2


def test_tokens_can_be_read_in_pieces() -> None:
    text = b"select 'a''b', $1 -- x\n from \"T\" where [+1]; /* */"
    whole = tokens(text)
    assert [Kind(kind).name for kind, _, _ in whole[:5]] == ["K_WORD", "K_LITERAL", "K_COMMA", "K_PARAMETER", "K_WORD"]
    assert whole[-1] == (Kind.K_END, len(text), len(text))
    assert [token for _, start, _ in whole for token in tokens(text, start, limit=1)] == whole
    assert tokens(text, limit=0) == []
    assert tokens(b"a /* b") == [(Kind.K_WORD, 0, 1), (Kind.K_UNREADABLE, 1, 6)]
    assert tokens(b"a 'b", 2) == [(Kind.K_UNREADABLE, 2, 4)]
    for start in (-1, 5):
        with pytest.raises(ValueError, match="a place in it"):
            tokens(b"abcd", start)


def test_gist() -> None:
    assert gist(b"") == Gist(b"", b"", frozenset(), False)
    assert gist(b"((SET /* */ Local a = 1") == Gist(b"set", b"local", frozenset(), False)
    assert gist(b'"set" x') == Gist(b"", b"x", frozenset(), False)
    assert gist(b"create TEMP table t (a int)") == Gist(b"create", b"temp", frozenset([b"t"]), True)
    text = b'select a.F (1), u&"g"(), "H""h"(), \'i\'(), j[1], k'
    assert gist(text).calls == {b"f", b"g", b'H""h'}
    assert gist(b"select f(1), 'open g(").calls == {b"f"}
