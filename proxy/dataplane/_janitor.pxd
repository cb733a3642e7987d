from proxy.dataplane._state cimport Relay_

cdef void janitor(Relay_ *r) noexcept nogil
cdef void janitor_targets(Relay_ *r) noexcept nogil
