# What SQL makes of a byte, as far as PostgreSQL and MySQL agree; and two loops over bytes. A constant table, made by the
# C compiler: each module has its own copy, beside its code.

from libc.stdint cimport uint8_t
from libc.string cimport memchr

cdef enum:               # flags of a byte
    F_IDENT = 1          # may go on in an identifier: letters, digits, _ $, all above 0x7F
    F_TAG = 2            # … in a dollar tag
    F_DIGIT = 4
    F_BLANK = 8
    F_COMMENT = 16       # plain inside of /* nested */
    F_ESCAPES = 32       # plain inside of e''
    F_LINE = 64          # plain behind PostgreSQL's --
    F_STRING = 128       # plain inside of MySQL's '' and ""

cdef extern from *:
    """
    #define SQL_IN(c, low, high) ((c) >= (low) && (c) <= (high))
    #define SQL_LETTER(c) (SQL_IN(c, 'a', 'z') || SQL_IN(c, 'A', 'Z') || (c) == '_' || (c) >= 0x80)
    #define SQL_FLAG(c) ( \\
        (SQL_LETTER(c) || SQL_IN(c, '0', '9') ? 1 | 2 : (c) == '$' ? 1 : 0) | (SQL_IN(c, '0', '9') ? 4 : 0) | \\
        ((c) == ' ' || SQL_IN(c, 9, 13) ? 8 : 0) | ((c) != '*' && (c) != '/' ? 16 : 0) | \\
        ((c) != '\\'' && (c) != '\\\\' ? 32 : 0) | ((c) != 10 && (c) != 13 ? 64 : 0) | \\
        ((c) != '\\'' && (c) != '"' && (c) != '\\\\' ? 128 : 0))
    #define SQL_4(c) SQL_FLAG(c), SQL_FLAG(c + 1), SQL_FLAG(c + 2), SQL_FLAG(c + 3)
    #define SQL_16(c) SQL_4(c), SQL_4(c + 4), SQL_4(c + 8), SQL_4(c + 12)
    #define SQL_64(c) SQL_16(c), SQL_16(c + 16), SQL_16(c + 32), SQL_16(c + 48)
    static const unsigned char SQL_FLAGS[256] __attribute__((unused)) = {SQL_64(0), SQL_64(64), SQL_64(128), SQL_64(192)};
    """
    const uint8_t[256] FLAGS "SQL_FLAGS"


cdef inline Py_ssize_t skip(const uint8_t *p, Py_ssize_t i, Py_ssize_t n, uint8_t flag) noexcept nogil:
    """The first place at or behind `i` whose byte lacks `flag`."""
    while i < n and FLAGS[p[i]] & flag:
        i += 1
    return i


cdef inline Py_ssize_t find(const uint8_t *p, Py_ssize_t i, Py_ssize_t n, int byte) noexcept nogil:
    """The first `byte` at or behind `i`, or `n`."""
    cdef const uint8_t *at = <const uint8_t*>memchr(p + i, byte, n - i)
    return n if at == NULL else at - p


cdef inline bint holds(const uint8_t *p, Py_ssize_t start, Py_ssize_t stop, int byte) noexcept nogil:
    return memchr(p + start, byte, stop - start) != NULL


cdef inline uint8_t fold(uint8_t c) noexcept nogil:
    """Lower case in ASCII only, whatever the locale."""
    return <uint8_t>(c + 32 if 65 <= c <= 90 else c)
