"""Contexts of proxy.net._tls: whom they trust, what they agree on, which files they refuse."""

import hashlib
import random
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from proxy.net._tls import ClientContext, ServerContext, TlsClosed, TlsError, TlsFileError, TlsSession
from tests.unit.net.peers import Cut, PythonPeer, python_client, python_server, random_pieces, send, shake
from tests.unit.net.pki import Hash, Issued, Key, Pki, pem, rsa_key

# ---------------------------------------------------------------- whom we trust


def attempt(client: TlsSession, cert: Issued) -> None:
    shake(client, ServerContext(cert.cert, cert.key).session())


@pytest.mark.parametrize("name", ["db.example", "a.wild.example", "127.0.0.1", "::1", "0:0::1", "DB.Example"])
def test_verify_full_accepts(pki: Pki, server_cert: Issued, name: str) -> None:
    attempt(ClientContext("verify-full", pki.ca).session(name), server_cert)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("other.example", "hostname mismatch"),
        ("a.b.wild.example", "hostname mismatch"),
        ("wild.example", "hostname mismatch"),
        ("127.0.0.2", "IP address mismatch"),
        ("::2", "IP address mismatch"),
    ],
)
def test_verify_full_refuses_another_host(pki: Pki, server_cert: Issued, name: str, why: str) -> None:
    with pytest.raises(TlsError, match=f"certificate verify failed: {why}"):
        attempt(ClientContext("verify-full", pki.ca).session(name), server_cert)
    attempt(ClientContext("verify-ca", pki.ca).session(name), server_cert)  # the chain alone is fine


def test_common_name_counts_only_without_alternative_names(pki: Pki) -> None:
    attempt(ClientContext("verify-full", pki.ca).session("old.example"), pki.issue("cn", name="old.example"))
    both = pki.issue("cn-san", name="old.example", san=("new.example",))
    with pytest.raises(TlsError, match="hostname mismatch"):
        attempt(ClientContext("verify-full", pki.ca).session("old.example"), both)


@pytest.mark.parametrize("sslmode", ["verify-full", "verify-ca", "require"])
def test_a_ca_file_is_obeyed(pki: Pki, server_cert: Issued, sslmode: str, tmp_path: Path) -> None:
    stranger = Pki(tmp_path, "another authority")
    with pytest.raises(TlsError, match="certificate verify failed: unable to get local issuer certificate"):
        attempt(ClientContext(sslmode, stranger.ca).session("db.example"), server_cert)
    with pytest.raises(TlsError, match="certificate verify failed: certificate has expired"):
        attempt(
            ClientContext(sslmode, pki.ca).session("db.example"), pki.issue("old", san=("db.example",), expired=True)
        )
    attempt(ClientContext(sslmode, pki.ca).session("db.example"), server_cert)


def test_the_server_learns_why(pki: Pki, server_cert: Issued) -> None:
    client = ClientContext("verify-full", pki.ca).session("other.example")
    server = ServerContext(server_cert.cert, server_cert.key).session()
    client.handshake()
    server.feed(client.take())
    server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError):
        client.handshake()
    server.feed(client.take())
    with pytest.raises(TlsError, match="alert"):
        server.handshake()


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require"])
def test_lesser_modes_verify_nothing(pki: Pki, sslmode: str) -> None:
    attempt(ClientContext(sslmode).session("any"), pki.issue("old2", expired=True))


@pytest.mark.parametrize("sslmode", ["allow", "prefer"])
def test_allow_and_prefer_ignore_the_ca(pki: Pki, sslmode: str, tmp_path: Path) -> None:
    attempt(ClientContext(sslmode, Pki(tmp_path).ca).session("any"), pki.issue("old3", expired=True))


def test_system_authorities(server_cert: Issued) -> None:
    with pytest.raises(TlsError, match="certificate verify failed"):
        attempt(ClientContext("verify-full", "system").session("db.example"), server_cert)


def test_modes_that_would_not_check_are_refused(pki: Pki) -> None:
    with pytest.raises(TlsError, match="verify-ca needs ca_file"):
        ClientContext("verify-ca")
    with pytest.raises(TlsError, match="verify-full needs ca_file"):
        ClientContext("verify-full")
    for weak in ("verify-ca", "require", "prefer"):
        with pytest.raises(TlsError, match="too weak"):
            ClientContext(weak, "system")
    context = ClientContext("verify-full", pki.ca)
    for nameless in (None, ""):
        with pytest.raises(TlsError, match="needs the server's name"):
            context.session(nameless)
    for bad in ("db.example\0.evil", "x" * 300, "a" * 64 + "ü"):
        with pytest.raises(TlsError, match="not a host name"):
            context.session(bad)
    with pytest.raises(ValueError, match="unknown sslmode"):
        ClientContext("verify-fully", pki.ca)


@pytest.mark.parametrize("name", [None, "db.example", "münchen.example", "127.0.0.1", "::1", "fe80::1%eth0"])
def test_sni_names_hosts_only(server_cert: Issued, name: str | None) -> None:
    seen: list[str | None] = []
    context = python_server(server_cert)
    context.sni_callback = lambda _ssl, sni, _context: seen.append(sni)
    shake(ClientContext("require").session(name), PythonPeer(context, server=True))
    assert seen == [{"db.example": "db.example", "münchen.example": "xn--mnchen-3ya.example"}.get(name or "")]


# ---------------------------------------------------------------- client certificates


@pytest.mark.parametrize("maximum", ["1.2", "1.3"])
@pytest.mark.parametrize("policy", ["none", "optional", "required"])
@pytest.mark.parametrize("shown", ["nothing", "good", "stranger", "expired"])
def test_client_certificates(
    pki: Pki, server_cert: Issued, client_cert: Issued, policy: str, shown: str, maximum: str, tmp_path: Path
) -> None:
    server = ServerContext(server_cert.cert, server_cert.key, pki.ca if policy != "none" else None, policy).session()
    # Python's client sends its certificate whatever names the server lists, which is what has to be tested
    context = python_client(pki, maximum)
    cert = {
        "nothing": None,
        "good": client_cert,
        "stranger": Pki(tmp_path, "stranger").issue("client", name="alice"),
        "expired": pki.issue("client-old", name="alice", expired=True),
    }[shown]
    if cert:
        context.load_cert_chain(cert.cert, cert.key)
    client = PythonPeer(context, name="db.example")
    texts = {
        "nothing": "peer did not return a certificate" if policy == "required" else None,
        "stranger": "certificate verify failed: unable to get local issuer certificate",
        "expired": "certificate verify failed: certificate has expired",
    }
    expected = texts.get(shown) if policy != "none" else None
    if expected:
        with pytest.raises(TlsError, match=expected):
            shake(client, server)
        assert server.take()  # the alert
        return
    shake(client, server)
    known = shown == "good" and policy != "none"
    assert server.peer_common_name == ("alice" if known else None)
    assert server.peer_certificate() == (client_cert.der if known else None)


def test_our_client_shows_its_certificate(pki: Pki, server_cert: Issued, client_cert: Issued) -> None:
    server = ServerContext(server_cert.cert, server_cert.key, pki.ca, "required").session()
    shake(ClientContext("verify-full", pki.ca, client_cert.cert, client_cert.key).session("db.example"), server)
    assert server.peer_common_name == "alice"


def test_refusal_of_a_client_certificate_reaches_the_client_later(pki: Pki, server_cert: Issued) -> None:
    """In TLS 1.3 the client has finished before the server looks: it learns by its first read."""
    server = ServerContext(server_cert.cert, server_cert.key, pki.ca, "required").session()
    client = ClientContext("require").session("db.example")
    client.handshake()
    server.feed(client.take())
    server.handshake()
    client.feed(server.take())
    assert client.handshake()
    server.feed(client.take())
    with pytest.raises(TlsError):
        server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError, match="certificate required"):
        client.read()


def test_common_name_with_a_null_byte_is_refused(pki: Pki, server_cert: Issued) -> None:
    evil = pki.issue("evil", name="alice\0.evil.example")
    server = ServerContext(server_cert.cert, server_cert.key, pki.ca, "optional").session()
    shake(ClientContext("require", None, evil.cert, evil.key).session(), server)
    with pytest.raises(TlsError, match="null byte"):
        _ = server.peer_common_name


def test_client_certificates_need_a_ca(server_cert: Issued) -> None:
    with pytest.raises(TlsError, match="needs client_ca_file"):
        ServerContext(server_cert.cert, server_cert.key, None, "optional")
    with pytest.raises(ValueError, match="client_certificates is"):
        ServerContext(server_cert.cert, server_cert.key, None, "maybe")


# ---------------------------------------------------------------- ALPN, versions, interoperability


@pytest.mark.parametrize("offered", [("postgresql",), ("h2", "postgresql"), ("postgresql", "h2")])
def test_alpn_is_chosen(server_cert: Issued, offered: tuple[str, ...]) -> None:
    client = ClientContext("require", alpn=offered).session()
    server = ServerContext(server_cert.cert, server_cert.key).session()
    shake(client, server)
    assert client.alpn == server.alpn == "postgresql"


def test_alpn_without_ours_is_fatal(server_cert: Issued) -> None:
    client = ClientContext("require", alpn=("h2", "http/1.1")).session()
    server = ServerContext(server_cert.cert, server_cert.key).session()
    client.handshake()
    server.feed(client.take())
    with pytest.raises(TlsError):
        server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError, match="no application protocol"):
        client.handshake()


def test_no_alpn_is_allowed_and_seen(server_cert: Issued) -> None:
    client, server = ClientContext("require").session(), ServerContext(server_cert.cert, server_cert.key).session()
    shake(client, server)
    assert client.alpn is server.alpn is None


def test_alpn_may_be_ignored(server_cert: Issued) -> None:
    client = ClientContext("require", alpn=("h2",)).session()
    shake(client, ServerContext(server_cert.cert, server_cert.key, alpn=()).session())
    assert client.alpn is None


def test_alpn_names_have_limits() -> None:
    for bad in (("",), ("x" * 256,), ("x" * 200, "y" * 200)):
        with pytest.raises(ValueError, match="ALPN names"):
            ClientContext("require", alpn=bad)


@pytest.mark.parametrize("maximum", ["1.2", "1.3"])
def test_python_as_client(pki: Pki, server_cert: Issued, maximum: str, cut: Cut) -> None:
    client = PythonPeer(python_client(pki, maximum), name="db.example")
    server = ServerContext(server_cert.cert, server_cert.key).session()
    shake(client, server, cut)
    assert server.version == client.ssl.version() == f"TLSv{maximum}"
    data = random.Random(2).randbytes(200_000)
    pieces = random_pieces(11)
    assert send(client, server, data, pieces, 1000) == data
    assert send(server, client, data, pieces, 1000) == data
    assert client.ssl.compression() is None


@pytest.mark.parametrize("maximum", ["1.2", "1.3"])
def test_python_as_server(pki: Pki, server_cert: Issued, maximum: str, cut: Cut) -> None:
    client = ClientContext("verify-full", pki.ca).session("db.example")
    server = PythonPeer(python_server(server_cert, maximum), server=True)
    shake(client, server, cut)
    assert client.version == f"TLSv{maximum}"
    data = random.Random(4).randbytes(200_000)
    pieces = random_pieces(12)
    assert send(client, server, data, pieces, 1000) == data
    assert send(server, client, data, pieces, 1000) == data
    server.write(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        server.ssl.unwrap()
    client.feed(server.take())
    assert client.read() == b"bye"
    with pytest.raises(TlsClosed):
        client.read()


def test_minimum_version_of_the_server(pki: Pki, server_cert: Issued) -> None:
    server = ServerContext(server_cert.cert, server_cert.key, minimum_version="1.3").session()
    with pytest.raises(TlsError, match="unsupported protocol"):
        shake(PythonPeer(python_client(pki, "1.2"), name="db.example"), server)


def test_minimum_version_of_the_client(server_cert: Issued) -> None:
    client = ClientContext("require", minimum_version="1.3").session()
    server = PythonPeer(python_server(server_cert, "1.2"), server=True)
    client.handshake()
    server.feed(client.take())
    with pytest.raises(ssl.SSLError):
        server.handshake()
    client.feed(server.take())
    with pytest.raises(TlsError, match="protocol version"):
        client.handshake()


def test_older_versions_are_not_spoken(pki: Pki, server_cert: Issued) -> None:
    hello = bytearray(PythonHello(pki).take())
    hello[9:11] = b"\x03\x02"  # client_version TLS 1.1 (and no supported_versions extension, see PythonHello)
    server = ServerContext(server_cert.cert, server_cert.key).session()
    server.feed(bytes(hello))
    with pytest.raises(TlsError, match="unsupported protocol"):
        server.handshake()
    for bad in ("1.1", "1.0", "", "TLSv1.2"):
        with pytest.raises(ValueError, match="minimum_version"):
            ServerContext(server_cert.cert, server_cert.key, minimum_version=bad)


class PythonHello(PythonPeer):
    """A client that has said its hello, of TLS 1.2 only."""

    def __init__(self, pki: Pki) -> None:
        super().__init__(python_client(pki, "1.2"), name="db.example")
        self.handshake()


# ---------------------------------------------------------------- session tickets


@pytest.mark.parametrize("with_certificate", [False, True])
@pytest.mark.parametrize("maximum", ["1.2", "1.3"])
def test_tickets_resume_within_a_context(
    pki: Pki, server_cert: Issued, client_cert: Issued, maximum: str, with_certificate: bool
) -> None:
    def make() -> ServerContext:
        return ServerContext(server_cert.cert, server_cert.key, pki.ca, "required" if with_certificate else "none")

    server_context, context = make(), python_client(pki, maximum)
    if with_certificate:
        context.load_cert_chain(client_cert.cert, client_cert.key)
    client, server = PythonPeer(context, name="db.example"), server_context.session()
    shake(client, server)
    assert not server.resumed
    ticket = client.ssl.session
    assert ticket is not None and ticket.has_ticket
    again, server = PythonPeer(context, name="db.example", session=ticket), server_context.session()
    shake(again, server)
    assert server.resumed and again.ssl.session_reused
    assert server.peer_common_name == ("alice" if with_certificate else None)
    assert send(again, server, b"data") == b"data"
    # another process (here: another context) cannot read the ticket: a full handshake, no error
    elsewhere = make().session()
    shake(PythonPeer(context, name="db.example", session=ticket), elsewhere)
    assert not elsewhere.resumed


# ---------------------------------------------------------------- channel binding

BINDINGS: dict[str, tuple[Key, Hash | None, bool, str | None]] = {
    "rsa-sha256": (rsa_key(), hashes.SHA256(), False, "sha256"),
    "rsa-sha512": (rsa_key(), hashes.SHA512(), False, "sha512"),
    "rsa-pss-sha384": (rsa_key(), hashes.SHA384(), True, "sha384"),
    "ecdsa-sha256": (ec.generate_private_key(ec.SECP256R1()), hashes.SHA256(), False, "sha256"),
    "ecdsa-sha384": (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384(), False, "sha384"),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), None, False, None),  # RFC 5929 defines none
}


@pytest.mark.parametrize("kind", BINDINGS)
def test_tls_server_end_point(pki: Pki, kind: str) -> None:
    key, digest, pss, name = BINDINGS[kind]
    cert = pki.self_signed(kind, key, digest, pss)
    client, server = ClientContext("require").session(), ServerContext(cert.cert, cert.key).session()
    shake(client, server)
    expected = hashlib.new(name, cert.der).digest() if name else None
    assert server.own_certificate_hash() == client.peer_certificate_hash() == expected
    assert client.own_certificate_hash() is server.peer_certificate_hash() is None


@pytest.mark.parametrize("old", ["md5", "sha1"])
def test_tls_server_end_point_of_old_hashes(tmp_path: Path, old: str) -> None:
    """RFC 5929: SHA-256 takes the place of MD5 and SHA-1. The cryptography package no longer signs with these."""
    key, cert = tmp_path / "old.key", tmp_path / "old.crt"
    key.write_bytes(pem(rsa_key()))
    command = f"openssl req -x509 -new -{old} -key {key} -out {cert} -subj /CN=localhost"
    subprocess.run(command.split(), check=True, capture_output=True)
    client, server = ClientContext("require").session(), ServerContext(str(cert), str(key)).session()
    shake(client, server)
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    assert server.own_certificate_hash() == client.peer_certificate_hash() == hashlib.sha256(der).digest()


# ---------------------------------------------------------------- files


def test_files_that_are_not_there(server_cert: Issued, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    for make, what in (
        (lambda: ServerContext(missing, server_cert.key), "certificate"),
        (lambda: ServerContext(server_cert.cert, missing), "private key"),
        (lambda: ServerContext(server_cert.cert, server_cert.key, missing, "optional"), "CA file"),
        (lambda: ClientContext("verify-ca", missing), "CA file"),
        (lambda: ClientContext("require", None, missing, server_cert.key), "certificate"),
    ):
        with pytest.raises(TlsFileError, match=f"cannot read {what} {missing}: No such file") as error:
            make()
        assert error.value.path == missing


def test_files_that_are_something_else(server_cert: Issued, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    for content in (b"", b"not a certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        junk.write_bytes(content)
        for make in (
            lambda: ServerContext(str(junk), server_cert.key),
            lambda: ServerContext(server_cert.cert, str(junk)),
            lambda: ServerContext(server_cert.cert, server_cert.key, str(junk), "required"),
            lambda: ClientContext("require", str(junk)),
        ):
            with pytest.raises(TlsFileError, match=f"no usable PEM .*{junk}") as error:
                make()
            assert error.value.path == str(junk)
    with pytest.raises(TlsFileError, match="directory"):
        ServerContext(str(tmp_path), server_cert.key)


def test_keys_of_another_certificate(pki: Pki, server_cert: Issued, client_cert: Issued) -> None:
    same_type = pki.issue("same-type")
    for other in (same_type, client_cert):  # EC and RSA: OpenSSL reports these two differently
        with pytest.raises(TlsFileError, match=f"{other.key} does not belong to the certificate {server_cert.cert}"):
            ServerContext(server_cert.cert, other.key)
        with pytest.raises(TlsFileError, match="does not belong"):
            ClientContext("require", None, server_cert.cert, other.key)


def test_encrypted_keys_are_refused_without_asking(pki: Pki, client_cert: Issued, tmp_path: Path) -> None:
    path = tmp_path / "locked.key"
    path.write_bytes(pem(rsa_key(), b"secret"))
    with pytest.raises(TlsFileError, match=f"without passphrase.*{path}"):
        ServerContext(client_cert.cert, str(path))


def test_certificate_and_key_go_together(client_cert: Issued) -> None:
    for half in ({"cert_file": client_cert.cert}, {"key_file": client_cert.key}):
        with pytest.raises(TlsError, match="go together"):
            ClientContext("require", None, **half)


def test_contexts_are_set_up_once(server_cert: Issued) -> None:
    context: Any = ServerContext(server_cert.cert, server_cert.key)
    with pytest.raises(TypeError, match="once"):
        context.__init__(server_cert.cert, server_cert.key)
