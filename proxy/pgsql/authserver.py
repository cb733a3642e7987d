"""We as the server: authenticates a client the way its secret's `client_password_auth_type` says. A generator.

Returns the last words of the exchange (AuthenticationSASLFinal, or nothing). They are not sent here: they leave in one
write with AuthenticationOk and everything behind it, or in front of the error, if no database answers.
"""

import os

from proxy.errors import IamWithoutTls, ProtocolViolation, UnsupportedAuthentication, WrongPassword
from proxy.exchange import Exchange
from proxy.model import ClientPasswordAuthType, Credential, IamAuth
from proxy.pgsql.exchange import MAX_AUTH_MESSAGE, Line
from proxy.pgsql.md5 import md5_matches
from proxy.pgsql.messages import (
    Auth,
    authentication,
    authentication_sasl,
    parse_password,
    parse_sasl_initial_response,
)
from proxy.pgsql.scram import MAX_SASL_MESSAGE, ScramServer, verifier

_PASSWORD = 0x70  # p: PasswordMessage, SASLInitialResponse and SASLResponse alike


def authenticate(line: Line, credential: Credential, user: str) -> Exchange[bytes]:
    """`user` as the client wrote it: it is part of the MD5 hash and of the refusal's text."""
    if credential.iam_auth is IamAuth.REQUIRED:
        # tokens are checked by the controller, which this engine does not know; without TLS they are not even asked for
        raise UnsupportedAuthentication if line.encrypted else IamWithoutTls
    match credential.client_password_auth_type:
        case ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256:
            return (yield from _scram(line, credential, user))
        case ClientPasswordAuthType.POSTGRES_MD5:
            return (yield from _md5(line, credential, user))
        case _:
            raise UnsupportedAuthentication


def _response(line: Line, what: str, limit: int) -> Exchange[bytes]:
    """The body of the client's next message. What waits in `line.pending` goes out when we have to wait for it."""
    while (message := line.message(limit)) is None:
        line.feed((yield line.flush()))
    if message[0] != _PASSWORD:
        raise ProtocolViolation(f"expected {what} response, got message type {message[0]}")
    return message[1]


def _scram(line: Line, credential: Credential, user: str) -> Exchange[bytes]:
    exchange = ScramServer(verifier(user, credential.password), line.binding)
    line.pending += authentication_sasl(exchange.mechanisms())
    mechanism, data = parse_sasl_initial_response((yield from _response(line, "SASL", MAX_AUTH_MESSAGE)))
    if data is None:
        line.pending += authentication(Auth.SASL_CONTINUE)
        data = yield from _response(line, "SASL", MAX_SASL_MESSAGE)
    line.pending += authentication(Auth.SASL_CONTINUE, exchange.first(mechanism, data))
    signature = exchange.final((yield from _response(line, "SASL", MAX_SASL_MESSAGE)))
    if signature is None:
        raise WrongPassword(user)
    return line.flush() + authentication(Auth.SASL_FINAL, signature)


def _md5(line: Line, credential: Credential, user: str) -> Exchange[bytes]:
    salt = os.urandom(4)
    line.pending += authentication(Auth.MD5_PASSWORD, salt)
    response = parse_password((yield from _response(line, "password", MAX_AUTH_MESSAGE)))
    if not md5_matches(response, user, credential.password, salt):
        raise WrongPassword(user)
    return line.flush()
