# What is left of a session on a server, asked in one query. See _leftovers.pyx.

from libc.stdint cimport uint8_t, uint64_t

from proxy._wire cimport IoBuf

cdef uint64_t leftovers_askable() noexcept nogil
cdef int leftovers_ask(uint64_t pins, bint settings, IoBuf *out) noexcept nogil
cdef bint leftovers_answer(
    const uint8_t *row, Py_ssize_t n, uint64_t *left, const uint8_t **names, Py_ssize_t *size,
) noexcept nogil
