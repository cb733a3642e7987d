# What the relay thread is told, by the front thread and by other workers. See _letters.pyx.

from libc.stdint cimport uint64_t

from proxy.dataplane._state cimport Relay_

cdef enum Mail_:                 # letters to the relay: what a, b, c, d, x, y, z, p and text are is said where they are read
    MAIL_POOL = 1
    MAIL_CLIENT = 2
    MAIL_SERVER = 3
    MAIL_SERVER_FAILED = 4
    MAIL_WANT = 5
    MAIL_CANCEL = 6
    MAIL_CANCEL_DONE = 7
    MAIL_PAUSE = 8
    MAIL_DRAIN = 9
    MAIL_SHUTDOWN = 10
    MAIL_KILL = 11
    MAIL_DUMP = 12
    MAIL_STOP = 13
    MAIL_SERVE = 14              # a limit changed
    MAIL_POOL_REMOVE = 15
    MAIL_CANCEL_TO = 16
    MAIL_ENDPOINT_GONE = 17

cdef uint64_t seconds(double s) noexcept nogil
cdef void letters_read(Relay_ *r) noexcept nogil
cdef void neighbours_read(Relay_ *r) noexcept nogil
