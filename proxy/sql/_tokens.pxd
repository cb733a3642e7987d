# The tokens of a whole text, one after the other; for what may read a text once more, as digests do. See `_tokens.pyx`.

from libc.stdint cimport uint8_t

cpdef enum Kind:
    K_END = 0
    K_UNREADABLE         # an unterminated string, name or comment, or what servers read in two ways: what follows is not said
    K_WORD
    K_NAME               # quoted identifier, its quotes included
    K_LITERAL
    K_PARAMETER
    K_OPEN               # ( [
    K_CLOSE              # ) ]
    K_COMMA
    K_SEMICOLON
    K_SIGN               # + -
    K_OTHER

cdef struct Tokens:      # may be copied, to look ahead
    const uint8_t *text
    Py_ssize_t n
    Py_ssize_t start     # of the token read last …
    Py_ssize_t stop      # … and where the next one is looked for
    uint8_t dialect
    uint8_t std_strings
    uint8_t blank        # blanks or comments stand in front of it
    uint8_t inside       # of MySQL's comment that is SQL

cdef void tokens_start(Tokens *t, const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings) noexcept nogil
cdef uint8_t next_token(Tokens *t) noexcept nogil
