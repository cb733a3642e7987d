from proxy.dataplane._state cimport Engine

cdef void engine_register(const Engine *e) noexcept
cdef const Engine *engine_of(int number) noexcept nogil
