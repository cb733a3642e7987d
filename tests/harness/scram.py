"""The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), for FakeClient and the benchmark's raw clients."""

import base64
import hashlib
import hmac
import os
from functools import lru_cache


@lru_cache(maxsize=64)
def _salted(password: str, salt: bytes, rounds: int) -> bytes:
    # cached: a thousand logins of one user cost one key derivation
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


class ScramClient:
    """first() → challenge → final(challenge) → answer → check(answer). `gs2` is "n,," without channel binding."""

    def __init__(self, password: str, *, gs2: bytes = b"n,,", binding: bytes = b"") -> None:
        self._password, self._gs2, self._binding = password, gs2, binding
        self._bare = b"n=,r=" + base64.b64encode(os.urandom(18))
        self._signature = b""

    def first(self) -> bytes:
        return self._gs2 + self._bare

    def final(self, challenge: bytes) -> bytes:
        words = dict(part.split(b"=", 1) for part in challenge.split(b","))
        assert words[b"r"].startswith(self._bare[5:]), "the server's nonce must begin with ours"
        salted = _salted(self._password, base64.b64decode(words[b"s"]), int(words[b"i"]))
        client_key = _hmac(salted, b"Client Key")
        without_proof = b"c=" + base64.b64encode(self._gs2 + self._binding) + b",r=" + words[b"r"]
        signed = b",".join((self._bare, challenge, without_proof))
        mask = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, mask, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return without_proof + b",p=" + base64.b64encode(proof)

    def check(self, answer: bytes) -> None:
        """The server proves that it knows the password too."""
        assert answer == b"v=" + base64.b64encode(self._signature), f"wrong server signature {answer!r}"
