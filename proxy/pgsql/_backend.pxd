# What a server says, message by message. See _backend.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from proxy._wire cimport Step, View
from proxy.pgsql._owed cimport Owed

cpdef enum BackendFault:
    BE_OK = 0
    BE_UNKNOWN_TYPE = 1
    BE_BAD_LENGTH = 2
    BE_UNEXPECTED = 3            # an answer nobody asked for
    BE_BAD_STATUS = 4            # ReadyForQuery with a status that is none of I, T, E

cdef struct Backend:
    uint8_t kind                 # type of the message in progress; 0 between messages
    uint8_t begins
    uint8_t ends
    uint8_t fault                # BackendFault, after VIOLATION
    uint8_t tx_status            # TX_IDLE, TX_OPEN, TX_FAILED; 0 before the first ReadyForQuery
    uint8_t verdict              # of the message in progress
    uint8_t fatal                # a FATAL or PANIC has come: the connection ends
    uint8_t sqlstate[5]          # of the last ErrorResponse
    uint32_t left
    Owed owed

cdef void backend_init(Backend *b) noexcept nogil
cdef void backend_free(Backend *b) noexcept nogil
cdef Step backend_step(Backend *b, const View *v, Py_ssize_t *n) noexcept nogil
cdef Py_ssize_t backend_plain(const Backend *b, const View *v) noexcept nogil
