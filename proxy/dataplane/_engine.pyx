"""The registry of engines: what the relay knows of the protocols it carries is a table of functions for each.

The relay owns sockets, pools, pairs, timers and permits. An engine reads what clients and servers say, decides what goes on, and
answers questions about a pair ("is anything owed?"). It registers itself when its module is imported; nothing here names one.
"""

from proxy.dataplane._state cimport ENGINES, Engine

cdef const Engine *_ENGINES[2]


cdef void engine_register(const Engine *e) noexcept:
    if 0 <= e.number < <int>ENGINES:
        _ENGINES[e.number] = e


cdef const Engine *engine_of(int number) noexcept nogil:
    """NULL if there is none."""
    return _ENGINES[number] if 0 <= number < <int>ENGINES else NULL
