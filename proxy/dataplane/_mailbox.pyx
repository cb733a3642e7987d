"""Letters between the two threads of a worker: a connection moves whole, as one pointer.

A lock-free stack per direction: the writer pushes by compare-and-swap, the reader takes all at once by exchange and turns the
order round. Against a ring it has no capacity to run out of and no slot to leave half written; letters are cold (logins,
closes, verbs), so the allocation does not matter. The reader's eventfd is raised only when the box was empty: whoever
finds letters in it already knows.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from proxy.shm._segment cimport eventfd_raise

cdef extern from *:
    """
    static inline void *proxy_load(void **p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline int proxy_cas(void **p, void *was, void *to) {
        return __atomic_compare_exchange_n(p, &was, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    static inline void *proxy_exchange(void **p, void *to) { return __atomic_exchange_n(p, to, __ATOMIC_ACQ_REL); }
    """
    void *proxy_load(void **p) noexcept nogil
    bint proxy_cas(void **p, void *was, void *to) noexcept nogil
    void *proxy_exchange(void **p, void *to) noexcept nogil


cdef Letter *letter_new(int kind) noexcept nogil:
    cdef Letter *letter = <Letter*>calloc(1, sizeof(Letter))
    if letter != NULL:
        letter.kind = kind
    return letter


cdef void letter_free(Letter *letter) noexcept nogil:
    if letter != NULL:
        free(letter.text)
        free(letter)


cdef int letter_text(Letter *letter, const void *data, Py_ssize_t n) noexcept nogil:
    """A copy of `data` becomes the letter's text. 0, or -1."""
    letter.text = <uint8_t*>malloc(n + 1)
    if letter.text == NULL:
        return -1
    if n:
        memcpy(letter.text, data, n)
    letter.text[n] = 0
    letter.size = n
    return 0


cdef void mail_put(Letter **box, int event_fd, Letter *letter) noexcept nogil:
    cdef void *was
    while True:
        was = proxy_load(<void**>box)
        letter.next = <Letter*>was
        if proxy_cas(<void**>box, was, letter):
            break
    if was == NULL:
        eventfd_raise(event_fd)


cdef Letter *mail_take(Letter **box) noexcept nogil:
    """All letters, oldest first, as a chain; NULL if there are none."""
    cdef Letter *letter = <Letter*>proxy_exchange(<void**>box, NULL)
    cdef Letter *first = NULL
    cdef Letter *following
    while letter != NULL:
        following = letter.next
        letter.next = first
        first = letter
        letter = following
    return first
