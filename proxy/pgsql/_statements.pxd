# Prepared statements, made independent of the server connection they were prepared on. See _statements.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr

from proxy.pgsql._params cimport ParamSet, ParamTable
from proxy.sql._effects cimport Effects

cdef enum:
    STATEMENT_NAME_BYTES = 20    # of the name a statement has on every server, NUL included

cdef struct Statement:
    Statement *next              # in the table's bucket
    Statement *newer             # unreferenced ones, in order of their last use
    Statement *older
    uint64_t hash
    uint64_t touches             # what the lexer found in its text
    Effects *effects             # what it does to the session; NULL: nothing, or not read yet
    ParamSet *meaning            # the settings its analysis may depend on
    uint32_t id
    uint32_t refs
    uint32_t size
    uint8_t flags                # StatementFlags_
    uint8_t data[1]              # the Parse message behind its name: text, NUL, parameter types

cdef enum StatementFlags_:
    STD_STRINGS = 1              # of the session: the lexing depends on it
    ASCII_SAFE = 2
    OF_QUERY = 4                 # the text of a Query, kept for its effects
    PRIVATE = 8                  # analysed while its settings were not known for certain: never shared

cdef struct StatementTable:
    ParamTable *params
    Statement *buckets[4096]
    Statement *newest            # unreferenced
    Statement *oldest
    uint32_t count
    uint32_t unused
    uint64_t unused_bytes
    uint32_t next_id

cdef struct Name:                # what one client calls a statement
    char *name
    Statement *statement
    uint32_t hash
    uint32_t size
    uint32_t shape               # of its rows, as the client was told; 0: it was not

cdef struct Change:              # to a name, under way to the server: made when the server has answered
    char *name
    uint32_t size
    uint32_t batch               # the server's, in which it was sent
    Statement *statement         # NULL: closed
    uint8_t gone                 # … by a DEALLOCATE ALL behind it

cdef enum NameState:
    NAME_ABSENT = 0
    NAME_PRESENT = 1
    NAME_UNSURE = 2              # depends on an answer that has not come, to an earlier batch

cdef struct Names:
    Name *slots
    uint32_t cap                 # a power of two, or 0
    uint32_t count
    Change *changes              # oldest first
    uint32_t n_changes
    uint32_t room
    uint32_t clearing            # DISCARD ALL and DEALLOCATE ALL under way in the batch
    uint32_t last                # the slot that names_look found last, + 1; 0: none

cdef struct Known:               # a statement on one server
    uint32_t id
    uint32_t used                # the server's batch in which it was last used
    uint32_t sent                # the batch in which its Parse went out
    uint32_t shape               # of its rows there; 0: not known
    uint8_t confirmed

cdef struct KnownSet:
    Known *slots
    uint32_t cap
    uint32_t count

cdef void statements_init(StatementTable *t, ParamTable *params) noexcept nogil
cdef void statements_free(StatementTable *t) noexcept nogil
cdef Statement *statement_intern(
    StatementTable *t, const uint8_t *body, Py_ssize_t n, uint8_t flags, ParamSet *meaning, bint *fresh,
) noexcept nogil
cdef void statement_share(StatementTable *t, Statement *s) noexcept nogil
cdef void statement_drop(StatementTable *t, Statement *s) noexcept nogil

cdef inline Py_ssize_t statement_text_size(const Statement *s) noexcept nogil:
    """Of its text: the types of its parameters are behind it, or nothing is."""
    cdef const uint8_t *nul = NULL
    if s == NULL:
        return 0
    nul = <const uint8_t*>memchr(&s.data[0], 0, s.size)
    return <Py_ssize_t>s.size if nul == NULL else nul - &s.data[0]

cdef Py_ssize_t statement_name(uint32_t id, uint8_t *name) noexcept nogil

cdef NameState names_look(
    Names *m, const uint8_t *name, Py_ssize_t n, uint32_t batch, Statement **found,
) noexcept nogil
cdef void names_told(Names *m, uint32_t id, uint32_t shape) noexcept nogil
cdef uint32_t rows_shape(const uint8_t *message, Py_ssize_t n) noexcept nogil

cdef inline Name *names_last(Names *m) noexcept nogil:
    """What names_look has found; NULL if that is still under way. Good until the next change."""
    return &m.slots[m.last - 1] if m.last else NULL

cdef int names_put(Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n, Statement *s) noexcept nogil
cdef int names_change(
    Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n, Statement *s, uint32_t batch,
) noexcept nogil
cdef void names_answered(Names *m, StatementTable *t, bint happened) noexcept nogil
cdef void names_remove(Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n) noexcept nogil
cdef const char *names_of(const Names *m, uint32_t id, uint32_t *size) noexcept nogil
cdef void names_clearing(Names *m) noexcept nogil
cdef void names_clear(Names *m, StatementTable *t) noexcept nogil
cdef void names_free(Names *m, StatementTable *t) noexcept nogil

cdef Known *known_get(const KnownSet *k, uint32_t id) noexcept nogil
cdef Known *known_put(KnownSet *k, uint32_t id) noexcept nogil
cdef void known_remove(KnownSet *k, uint32_t id) noexcept nogil
cdef uint32_t known_oldest(const KnownSet *k, uint32_t before) noexcept nogil
cdef void known_free(KnownSet *k) noexcept nogil
