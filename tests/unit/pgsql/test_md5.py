"""PostgreSQL's MD5 exchange against a hash computed by hand."""

import hashlib

from proxy.pgsql.md5 import md5_matches, md5_response


def test_the_formula() -> None:
    inner = hashlib.md5(b"apppw" + b"app").hexdigest()
    assert (
        md5_response("app", "apppw", b"\1\2\3\4")
        == b"md5" + hashlib.md5(inner.encode() + b"\1\2\3\4").hexdigest().encode()
    )


def test_a_known_value() -> None:
    # select 'md5' || md5(md5('secretuser') || 'salt')
    assert md5_response("user", "secret", b"salt") == b"md5" + b"440c573f34f2e2f3ff4b6dbdd8a2686b"


def test_matches() -> None:
    right = md5_response("app", "apppw", b"salt")
    assert md5_matches(right, "app", "apppw", b"salt")
    for wrong in (b"", b"md5", right[:-1], right + b"0", right.upper(), b"\xff" * 35):
        assert not md5_matches(wrong, "app", "apppw", b"salt")
    assert not md5_matches(right, "app", "apppw", b"tlas")
    assert not md5_matches(right, "other", "apppw", b"salt")


def test_names_that_are_not_utf8() -> None:
    assert md5_response("caf\udce9", "p", b"salt") != md5_response("cafe", "p", b"salt")
