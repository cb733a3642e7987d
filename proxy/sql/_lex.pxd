# A resumable scanner over SQL text: which session state can this text touch? See `_lex.pyx`.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

# the LEX_ bits of lex_end come with these, for whoever cimports this file
from proxy.sql._rules cimport (
    LEX_DROP_DATABASE, LEX_EFFECTS, LEX_EMPTY, LEX_ENDS, LEX_LOCAL, LEX_TRANSACTION_END, LEX_TRANSACTION_START, Rules,
)

cpdef enum Dialect:
    POSTGRESQL = 0
    MYSQL = 1            # and MariaDB; see `_lex_mysql.pyx`
    MYSQL_ANSI = 2       # the same with ANSI_QUOTES in sql_mode

cdef enum:
    WORD_MAX = 64

cdef struct Lex:         # no pointers inside: may be copied and moved; nothing to free
    Rules rules
    uint32_t nesting     # of /* */; MySQL: inside of a comment that is SQL
    uint8_t state
    uint8_t kind         # of string
    uint8_t newline      # seen behind a closing quote: a string may go on
    uint8_t unicode      # the quoted name is U&"…"
    uint8_t escaped      # … and has a backslash
    uint8_t matched      # bytes of the dollar tag found so far
    uint8_t word_len     # 65: more than 64
    uint8_t std_strings  # MySQL: NO_BACKSLASH_ESCAPES
    uint8_t dialect
    uint8_t[64] word     # the start of a word, name or dollar tag that reaches into the next piece


cdef inline void keep(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Append to `word` what fits; `word_len` says whether more was there."""
    cdef Py_ssize_t room = WORD_MAX - lx.word_len
    if n > room:
        if room > 0:
            memcpy(lx.word + lx.word_len, p, room)
        lx.word_len = WORD_MAX + 1
    elif n > 0:
        memcpy(lx.word + lx.word_len, p, n)
        lx.word_len += <uint8_t>n


# `ascii_safe`: an ASCII byte always is that character. For MySQL also: no byte above 0x7F is a blank, as 0xA0 is in latin1.
cdef void lex_start(Lex *lx, uint8_t dialect, bint std_strings, bint ascii_safe) noexcept nogil
cdef void lex_feed(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil
# 1 << PinReason for each that applies, and LEX_ bits. Ends the scan: call once; feed nothing after it.
cdef uint64_t lex_end(Lex *lx) noexcept nogil
# Of LEX_DROP_DATABASE or LEX_USE_DATABASE, after lex_end; n = 0: its name is not readable here, so it may be any.
# Lives as long as `lx`.
cdef const uint8_t *lex_database(Lex *lx, Py_ssize_t *n) noexcept nogil
