# What a server reports of itself by ParameterStatus, as interned sets. See _params.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from proxy._wire cimport IoBuf

cdef struct ParamSet:
    ParamSet *next               # in the table's bucket
    uint64_t hash
    uint32_t refs
    uint32_t size
    uint8_t std_strings          # standard_conforming_strings is on
    uint8_t ascii_safe           # client_encoding has no ASCII bytes inside its characters
    uint8_t read_only            # in_hot_standby or default_transaction_read_only is on (reported from PostgreSQL 14)
    uint8_t data[1]              # ParameterStatus messages, sorted by name

cdef struct Item:                # one ParameterStatus message
    const uint8_t *at
    Py_ssize_t size              # whole message
    const uint8_t *name
    Py_ssize_t name_size
    const uint8_t *value
    Py_ssize_t value_size

cdef struct ParamTable:
    ParamSet *buckets[256]
    uint32_t count

cdef void params_init(ParamTable *t) noexcept nogil
cdef ParamSet *params_intern(ParamTable *t, const uint8_t *data, Py_ssize_t n) noexcept nogil
cdef ParamSet *params_with(ParamTable *t, ParamSet *old, const uint8_t *message, Py_ssize_t n) noexcept nogil
cdef void params_drop(ParamTable *t, ParamSet *s) noexcept nogil
cdef int params_difference(const ParamSet *told, const ParamSet *now, IoBuf *out) noexcept nogil

cdef ParamSet *params_put(
    ParamTable *t, ParamSet *old, const uint8_t *name, Py_ssize_t n, const uint8_t *value, Py_ssize_t m,
) noexcept nogil
cdef ParamSet *params_without(ParamTable *t, ParamSet *old, const uint8_t *name, Py_ssize_t n) noexcept nogil
cdef const uint8_t *params_get(const ParamSet *s, const char *name, Py_ssize_t n, Py_ssize_t *size) noexcept nogil
cdef bint params_next(const ParamSet *s, Py_ssize_t *at, Item *item) noexcept nogil
cdef int params_order(const Item *a, const Item *b) noexcept nogil

cdef inline ParamSet *params_share(ParamSet *s) noexcept nogil:
    if s != NULL:
        s.refs += 1
    return s
