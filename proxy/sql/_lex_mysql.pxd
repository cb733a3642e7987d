# The MySQL dialect of `_lex`, which is where everybody else enters. Uses the same `Lex`, with states of its own.

from libc.stdint cimport uint8_t

from proxy.sql._lex cimport Lex

cdef void mysql_feed(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef void mysql_end(Lex *lx) noexcept nogil
