"""Letters from the relay to the front thread: what happened, for logs, views and whoever must act on it."""

from libc.stdint cimport int64_t

from proxy.dataplane._mailbox cimport letter_free, letter_new, letter_text, mail_put
from proxy.dataplane._state cimport Letter, Relay_
from proxy.shm._fields cimport WK_EVENTS_DROPPED
from proxy.shm._segment cimport word_add


cdef void tell(Relay_ *r, int kind, int64_t a, int64_t b, int64_t c, const void *text, Py_ssize_t n) noexcept nogil:
    """An event for the front. Without memory it is dropped and counted: the front can live without any single one but OPEN."""
    cdef Letter *letter = letter_new(kind)
    if letter == NULL or (n and letter_text(letter, text, n) < 0):
        letter_free(letter)
        word_add(r.wk + WK_EVENTS_DROPPED, 1)
        return
    letter.a = a
    letter.b = b
    letter.c = c
    mail_put(&r.outbox, r.event_fd, letter)
