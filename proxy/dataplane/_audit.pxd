from proxy.dataplane._state cimport Relay_

cdef extern from *:
    """
    #ifdef PROXY_DEBUG
    #define PROXY_DEBUGGING 1
    #else
    #define PROXY_DEBUGGING 0
    #endif
    """
    bint PROXY_DEBUGGING         # a constant: release builds compile the audit's calls away

cdef void audit(Relay_ *r) noexcept nogil
