# The settings of a session as an interned set, and the SQL that turns one set into another. See _settings.pyx.

from libc.stdint cimport uint8_t

from proxy._wire cimport IoBuf
from proxy.pgsql._params cimport ParamSet, ParamTable

cdef int settings_replay(const ParamSet *was, const ParamSet *want, bint in_transaction, IoBuf *out) noexcept nogil
cdef int settings_ask(const ParamSet *names, IoBuf *out) noexcept nogil
cdef ParamSet *settings_meaning(ParamTable *t, ParamSet *s) noexcept nogil
cdef ParamSet *settings_reported(
    ParamTable *t, ParamSet *s, const ParamSet *base, const ParamSet *born, const ParamSet *now, bint all,
) noexcept nogil
cdef bint settings_reportable(const uint8_t *message, Py_ssize_t n) noexcept nogil
cdef ParamSet *settings_tell(
    ParamTable *t, ParamSet *told, const ParamSet *base, const ParamSet *now, IoBuf *out,
) noexcept nogil
cdef bint settings_apart(const ParamSet *a, const ParamSet *b, const uint8_t *message, Py_ssize_t n) noexcept nogil
cdef bint settings_temporary(const ParamSet *s) noexcept nogil
cdef bint says_temporary(const uint8_t *text, Py_ssize_t n) noexcept nogil
cdef bint settings_readable(const ParamSet *s) noexcept nogil
