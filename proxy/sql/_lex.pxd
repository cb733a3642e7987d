# A resumable scanner over SQL text: which session state can this text touch? See `_lex.pyx`.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

# the LEX_ bits of lex_end come with these, for whoever cimports this file
from proxy.sql._rules cimport (
    LEX_DROP_DATABASE, LEX_EFFECTS, LEX_EMPTY, LEX_ENDS, LEX_TRANSACTION_END, LEX_TRANSACTION_START, Rules,
)

cpdef enum Dialect:
    POSTGRESQL = 0
    MYSQL = 1            # not read yet: every text is PIN_UNREADABLE

cdef struct Lex:         # no pointers inside: may be copied and moved; nothing to free
    Rules rules
    uint32_t nesting     # of /* */
    uint8_t state
    uint8_t kind         # of string
    uint8_t newline      # seen behind a closing quote: a string may go on
    uint8_t unicode      # the quoted name is U&"…"
    uint8_t escaped      # … and has a backslash
    uint8_t matched      # bytes of the dollar tag found so far
    uint8_t word_len     # 65: more than 64
    uint8_t std_strings
    uint8_t[64] word     # the start of a word, name or dollar tag that reaches into the next piece

cdef void lex_start(Lex *lx, uint8_t dialect, bint std_strings, bint ascii_safe) noexcept nogil
cdef void lex_feed(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil
# 1 << PinReason for each that applies, and LEX_ bits. Ends the scan: call once; feed nothing after it.
cdef uint64_t lex_end(Lex *lx) noexcept nogil
# Of LEX_DROP_DATABASE, after lex_end; n = 0: its name is not readable here, so it may be any. Lives as long as `lx`.
cdef const uint8_t *lex_database(Lex *lx, Py_ssize_t *n) noexcept nogil
