# What a text does to the session it runs in, statement by statement. See _effects.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cpdef enum EffectKind:
    EFFECT_NONE = 0
    EFFECT_SET = 1               # `name` is now `value`
    EFFECT_RESET = 2             # `name` is what the session began with
    EFFECT_RESET_ALL = 3         # … and so is every setting but the role
    EFFECT_DISCARD_ALL = 4       # the session is as at its beginning
    EFFECT_ASK = 5               # `name` is now something that only the server knows
    EFFECT_UNKNOWN = 6           # settings are changed, this text does not tell which; with a name: nothing takes it back
    EFFECT_ROLLBACK_TO = 7       # … to what they were at a savepoint
    EFFECT_DEALLOCATE = 8        # the prepared statement `name` is gone
    EFFECT_DEALLOCATE_ALL = 9
    EFFECT_DISCARD_SEQUENCES = 10

cdef enum:
    LIST_MARK = 1                # in front of each element of a value that was given as a list

cdef struct Effects:
    uint32_t size                # bytes of `data`
    uint32_t count
    uint16_t has                 # bit per EffectKind
    uint8_t data[1]

cdef struct Effect:
    uint8_t kind
    uint32_t statement           # counted from 0, empty ones left out: it is done when its CommandComplete comes
    const uint8_t *name          # settings: lower case
    Py_ssize_t name_size
    const uint8_t *value
    Py_ssize_t value_size

cdef Effects *effects_read(const uint8_t *text, Py_ssize_t n, bint std_strings) noexcept nogil
cdef bint effects_next(const Effects *e, uint32_t *at, Effect *one) noexcept nogil
