"""What became ready: epoll, edge-triggered. A descriptor is added once and leaves when it is closed; nothing is ever modified,
so a message costs no system call here beyond its share of the wait (epoll(7), "Level-triggered and edge-triggered").
"""

from libc.stdint cimport uint32_t

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum: EPOLL_CTL_ADD, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLL_CLOEXEC


cdef int poller_create() noexcept nogil:
    """A descriptor, or -1."""
    return epoll_create1(EPOLL_CLOEXEC)


cdef bint poller_add(int poller, int fd, void *who, bint both) noexcept nogil:
    """`both`: writability as well as readability. False if the kernel refuses."""
    cdef epoll_event event
    event.events = <uint32_t>(EPOLLIN | EPOLLRDHUP) | <uint32_t>EPOLLET
    if both:
        event.events |= EPOLLOUT
    event.data.ptr = who
    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0


cdef int poller_wait(int poller, Happening *out, int timeout_ms) noexcept nogil:
    """Fills `out`, which has room for POLLER_EVENTS; how many, 0 also after a signal."""
    cdef epoll_event events[POLLER_EVENTS]
    cdef uint32_t what
    cdef int i
    cdef int n = epoll_wait(poller, &events[0], POLLER_EVENTS, timeout_ms)
    for i in range(n):
        what = events[i].events
        out[i].who = events[i].data.ptr
        out[i].readable = (what & <uint32_t>(EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0
        out[i].writable = (what & <uint32_t>(EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0
        out[i].hup = (what & <uint32_t>(EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0
    return n if n > 0 else 0
