"""SASLprep (RFC 4013) as PostgreSQL applies it to passwords before SCRAM: what cannot be prepared is used as it is.

Follows pg_saslprep() of saslprep.c, so that a password works through the proxy exactly if it works on the database.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # not assigned in Unicode 3.2
)


def saslprep(password: str) -> bytes:
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw  # printable or not: PostgreSQL takes this short cut, too
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in password if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared or any(test(char) for char in prepared for test in _PROHIBITED):
        return raw
    if any(stringprep.in_table_d1(char) for char in prepared):  # right-to-left text, RFC 3454 section 6
        if any(stringprep.in_table_d2(char) for char in prepared):
            return raw
        if not (stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])):
            return raw
    return prepared.encode()
