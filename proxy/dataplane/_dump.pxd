from libc.stdint cimport int64_t

from proxy.dataplane._state cimport Relay_

cdef tuple CLIENT_COLUMNS, SERVER_COLUMNS, POOL_COLUMNS, PIN_COLUMNS

cdef void dump_clients(Relay_ *r, int64_t request) noexcept nogil
cdef void dump_servers(Relay_ *r, int64_t request) noexcept nogil
cdef void dump_pools(Relay_ *r, int64_t request) noexcept nogil
cdef void dump_pins(Relay_ *r, int64_t request) noexcept nogil
