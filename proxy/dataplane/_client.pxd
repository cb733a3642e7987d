from proxy.dataplane._state cimport Client, Relay_

cdef void client_visit(Relay_ *r, Client *c) noexcept nogil
