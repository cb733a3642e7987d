"""PostgreSQL's MD5 password exchange, both sides: "md5" + md5(md5(password + user) + salt), the hashes in hex.

Weak by today's measure and kept because RDS Proxy has it; `usedforsecurity=False` lets it work on FIPS builds of
OpenSSL, where the administrator has chosen it knowingly. Knows no message frames.
"""

import hashlib
import hmac


def _hex(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def md5_response(user: str, password: str, salt: bytes) -> bytes:
    secret = password.encode("utf-8", "surrogateescape") + user.encode("utf-8", "surrogateescape")
    return b"md5" + _hex(_hex(secret) + salt)


def md5_matches(response: bytes, user: str, password: str, salt: bytes) -> bool:
    return hmac.compare_digest(response, md5_response(user, password, salt))
