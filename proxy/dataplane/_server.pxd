from proxy.dataplane._state cimport Relay_, Server

cdef void server_visit(Relay_ *r, Server *s) noexcept nogil
