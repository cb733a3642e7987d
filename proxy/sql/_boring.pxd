# A stretch of SQL in which nothing matters to the session, passed over in blocks. See _boring.pyx.

from libc.stdint cimport uint8_t

from proxy.sql._rules cimport Rules

cdef Py_ssize_t boring_stretch(Rules *r, const uint8_t *p, Py_ssize_t i, Py_ssize_t n, bint std_strings) noexcept nogil
