# Which server connection goes to whom. See _pool.pyx.

from libc.stdint cimport uint64_t

from proxy.dataplane._state cimport Client, Pool, Relay_, Server, Target

cdef Pool *pool_new(int id, Target *target) noexcept nogil
cdef void pool_free(Pool *p) noexcept nogil
cdef void pool_add(Pool *p, Server *s) noexcept nogil
cdef void pool_drop(Pool *p, Server *s) noexcept nogil
cdef Server *pool_take_idle(Pool *p) noexcept nogil
cdef void pool_put_idle(Pool *p, Server *s, uint64_t now) noexcept nogil
cdef void pool_enqueue(Pool *p, Client *c) noexcept nogil
cdef void pool_dequeue(Pool *p, Client *c) noexcept nogil
cdef Client *pool_longest_waiter(const Pool *p) noexcept nogil
cdef Server *pool_longest_idle(const Pool *p) noexcept nogil
cdef int pool_openings_due(const Pool *p, uint64_t now) noexcept nogil
cdef void pool_open_failed(Pool *p, uint64_t now) noexcept nogil
cdef Server *target_longest_idle(Relay_ *r, const Target *t, const Pool *besides) noexcept nogil
cdef bint pool_should_yield(Relay_ *r, Pool *p) noexcept nogil
cdef bint pool_may_grow(Relay_ *r, Pool *p) noexcept nogil
