# A client and the server connection it borrows: borrow, give back, pin, fail, close. See _session.pyx.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from proxy.dataplane._state cimport Chan, Client, Letter, Pool, Relay_, Server, Target

cdef enum Message_:
    MESSAGE_CANCEL = 1           # between workers: CancelMessage
    MESSAGE_DROP_DATABASE = 2    # DropMessage

cdef struct CancelMessage:
    uint32_t kind
    int slot
    uint32_t key_size
    uint64_t heard
    uint8_t key[32]

cdef struct DropMessage:
    uint32_t kind
    int target
    char database[64]

cdef void schedule(Relay_ *r, Chan *ch) noexcept nogil

cdef bint session_borrow(Relay_ *r, Client *c) noexcept nogil
cdef void session_settle(Relay_ *r, Server *s) noexcept nogil
cdef void session_audit(Relay_ *r, Client *c, bint thorough) noexcept nogil
cdef void session_cancel_now(Relay_ *r, Server *s) noexcept nogil
cdef void session_cancel(Relay_ *r, int slot, const uint8_t *key, Py_ssize_t size, uint64_t heard) noexcept nogil
cdef void session_cancel_done(Relay_ *r, Server *s) noexcept nogil
cdef void session_cleanup_step(Relay_ *r, Server *s) noexcept nogil
cdef void session_unsettle(Relay_ *r, Server *s) noexcept nogil

cdef void client_end(Relay_ *r, Client *c, int reason) noexcept nogil
cdef void client_close(Relay_ *r, Client *c, int reason) noexcept nogil
cdef void client_refuse(Relay_ *r, Client *c, int reason) noexcept nogil
cdef bint client_quiet(const Client *c) noexcept nogil

cdef void server_close(Relay_ *r, Server *s, int reason, const char *why) noexcept nogil
cdef void server_gone(Relay_ *r, Server *s) noexcept nogil
cdef void server_lost(Relay_ *r, Server *s, int reason, const char *why) noexcept nogil
cdef void server_free(Relay_ *r, Server *s) noexcept nogil

cdef void pool_grow(Relay_ *r, Pool *p) noexcept nogil
cdef void pool_opening_ended(Relay_ *r, Pool *p, int permit, bint keep) noexcept nogil
cdef void target_serve(Relay_ *r, Target *t) noexcept nogil
cdef void target_give_up(Relay_ *r, Target *t, uint64_t idle_for) noexcept nogil
cdef void drop_database(Relay_ *r, Target *t, const char *name) noexcept nogil
