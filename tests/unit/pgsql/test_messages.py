"""Messages byte for byte against the manual's table, and parsers against what is not a message."""

import pytest

from proxy.errors import NoCredentials, ProtocolViolation, QueryCanceled, WrongPassword
from proxy.exchange import PeerClosed
from proxy.pgsql import messages as m
from proxy.pgsql.exchange import Line

# ---------------------------------------------------------------- builders


@pytest.mark.parametrize(
    ("built", "expected"),
    [
        (m.AUTHENTICATION_OK, b"R\0\0\0\x08\0\0\0\0"),
        (m.READY_FOR_QUERY_IDLE, b"Z\0\0\0\x05I"),
        (m.TERMINATE, b"X\0\0\0\x04"),
        (m.SSL_REQUEST, b"\0\0\0\x08\x04\xd2\x16\x2f"),
        (m.authentication(m.Auth.MD5_PASSWORD, b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
        (m.authentication_sasl([b"A", b"B"]), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
        (m.backend_key_data(0x01020304, b"abcd"), b"K\0\0\0\x0c\1\2\3\4abcd"),
        (m.backend_key_data(1, b"k" * 32), b"K\0\0\0\x28\0\0\0\1" + b"k" * 32),
        (m.parameter_status(b"TimeZone", b"UTC"), b"S\0\0\0\x11TimeZone\0UTC\0"),
        (m.negotiate_protocol_version(0x30002, [b"_pq_.x"]), b"v\0\0\0\x13\0\3\0\2\0\0\0\1_pq_.x\0"),
        (m.startup_message([("user", "a"), ("database", "b")]), b"\0\0\0\x1b\0\3\0\0user\0a\0database\0b\0\0"),
        (m.startup_message([("user", "caf\udce9")], m.PROTOCOL_3_2), b"\0\0\0\x13\0\3\0\2user\0caf\xe9\0\0"),
        (m.cancel_request(258, b"abcd"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\1\2abcd"),
        (m.password_message(b"secret"), b"p\0\0\0\x0bsecret\0"),
        (m.sasl_initial_response(b"M", b"data"), b"p\0\0\0\x0eM\0\0\0\0\4data"),
        (m.sasl_response(b"data"), b"p\0\0\0\x08data"),
        (m.query(b"select 1"), b"Q\0\0\0\x0dselect 1\0"),
    ],
)
def test_built(built: bytes, expected: bytes) -> None:
    assert built == expected


def test_error_response() -> None:
    error = WrongPassword("app")
    error.detail, error.hint = "d", "h"
    fields = b"SFATAL\0VFATAL\0C28P01\0MThe password that was provided for the role app is wrong.\0Dd\0Hh\0\0"
    assert m.error_response(error) == b"E" + (len(fields) + 4).to_bytes(4) + fields


def test_an_error_that_does_not_end_the_session() -> None:
    assert b"SERROR\0VERROR\0C57014\0" in m.error_response(QueryCanceled())


def test_a_name_comes_back_as_it_came() -> None:
    assert b"for the role caf\xe9." in m.error_response(NoCredentials("caf\udce9"))


def test_no_nul_inside_a_field() -> None:
    assert m.error_response(NoCredentials("a\0b")).count(b"\0") == 3 + 5  # in the length word, and one per field


# ---------------------------------------------------------------- parsers


def test_sasl_initial_response() -> None:
    assert m.parse_sasl_initial_response(b"SCRAM\0\0\0\0\4data") == (b"SCRAM", b"data")
    assert m.parse_sasl_initial_response(b"SCRAM\0\0\0\0\0") == (b"SCRAM", b"")
    assert m.parse_sasl_initial_response(b"SCRAM\0\xff\xff\xff\xff") == (b"SCRAM", None)


@pytest.mark.parametrize(
    "body",
    [b"", b"SCRAM", b"SCRAM\0", b"SCRAM\0\0\0\0", b"SCRAM\0\0\0\0\5data", b"SCRAM\0\0\0\0\3data",
     b"SCRAM\0\xff\xff\xff\xffdata", b"SCRAM\0\xff\xff\xff\xfedata", b"SCRAM\0\x7f\xff\xff\xff"],
)  # fmt: skip
def test_sasl_initial_responses_that_are_none(body: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="invalid SASL initial response"):
        m.parse_sasl_initial_response(body)


def test_password() -> None:
    assert m.parse_password(b"secret\0") == b"secret"
    assert m.parse_password(b"\0") == b""
    for body in (b"", b"secret", b"sec\0ret\0", b"secret\0\0"):
        with pytest.raises(ProtocolViolation, match="invalid password packet size"):
            m.parse_password(body)


def test_ec64_error_without_sqlstate() -> None:
    assert m.parse_error(b"SFATAL\0Mno\0\0") == m.ErrorFields("FATAL", "", "no")
    assert str(m.parse_error(b"SFATAL\0Mno\0\0")) == "FATAL (no SQLSTATE): no"
    assert m.parse_error(b"") == m.ErrorFields("", "", "")
    assert m.parse_error(b"M\xff\xfe") == m.ErrorFields("", "", "\ufffd\ufffd")
    # the severity that is not translated
    assert m.parse_error(b"SFATAL\xc3\x89\0VFATAL\0C28P01\0Mx\0\0") == m.ErrorFields("FATAL", "28P01", "x")


def test_sasl_mechanisms() -> None:
    assert m.parse_sasl_mechanisms(b"A\0B\0\0") == [b"A", b"B"]
    assert m.parse_sasl_mechanisms(b"\0") == []
    for data in (b"", b"A", b"A\0"):
        with pytest.raises(ProtocolViolation):
            m.parse_sasl_mechanisms(data)


def test_parameter_status() -> None:
    assert m.parse_parameter_status(b"a\0b\0") == (b"a", b"b")
    assert m.parse_parameter_status(b"application_name\0\0") == (b"application_name", b"")
    for body in (b"", b"a", b"a\0", b"a\0b", b"a\0b\0c", b"a\0b\0\0", b"\0b\0"):
        with pytest.raises(ProtocolViolation):
            m.parse_parameter_status(body)


@pytest.mark.parametrize("size", [4, 32, 256])
def test_ec58_backend_keys(size: int) -> None:
    assert m.parse_backend_key_data(b"\0\0\1\0" + b"k" * size) == (256, b"k" * size)


@pytest.mark.parametrize("size", [-1, 0, 3, 257])
def test_ec58_backend_keys_that_are_none(size: int) -> None:
    with pytest.raises(ProtocolViolation):
        m.parse_backend_key_data((b"\0\0\1\0" + b"k" * max(size, 0))[: 4 + size])


def test_negotiate_protocol_version() -> None:
    assert m.parse_negotiate_protocol_version(b"\0\3\0\0\0\0\0\0") == (0x30000, [])
    assert m.parse_negotiate_protocol_version(b"\0\3\0\0\0\0\0\1_pq_.x\0") == (0x30000, [b"_pq_.x"])
    for body in (b"", b"\0\3\0\0\0\0\0\1", b"\0\3\0\0\0\0\0\0x\0", b"\0\3\0\0\0\0\0\1x", b"\0\3\0\0\xff\xff\xff\xff"):
        with pytest.raises(ProtocolViolation):
            m.parse_negotiate_protocol_version(body)


def test_data_row() -> None:
    assert m.parse_data_row(b"\0\3\0\0\0\1a\xff\xff\xff\xff\0\0\0\0") == [b"a", None, b""]
    for body in (
        b"",
        b"\0",
        b"\0\1",
        b"\0\1\0\0\0\2a",
        b"\0\1\0\0\0\1ab",
        b"\0\1\xff\xff\xff\xfea",
        b"\xff\xff\0\0\0\0",
    ):
        with pytest.raises(ProtocolViolation):
            m.parse_data_row(body)


def test_authentication() -> None:
    assert m.parse_authentication(b"\0\0\0\x05salt") == (5, b"salt")
    with pytest.raises(ProtocolViolation):
        m.parse_authentication(b"\0\0\0")


# ---------------------------------------------------------------- the line


def test_messages_from_a_line_at_every_cut() -> None:
    data = m.password_message(b"one") + m.query(b"two")
    for cut in range(len(data) + 1):
        line, found = Line(data[:cut]), []
        while (message := line.message(100)) is not None:
            found.append(message)
        if cut < len(data):
            line.feed(data[cut:])
        while (message := line.message(100)) is not None:
            found.append(message)
        assert found == [(0x70, b"one\0"), (0x51, b"two\0")]
        assert line.data == b""


@pytest.mark.parametrize("length", [0, 3, 101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_ec65_message_lengths(length: int) -> None:
    with pytest.raises(ProtocolViolation, match="invalid message length"):
        Line(b"p" + length.to_bytes(4) + b"x").message(100)


def test_end_of_stream() -> None:
    with pytest.raises(PeerClosed):
        Line(b"x").feed(b"")
