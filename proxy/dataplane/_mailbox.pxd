# Letters between the two threads of a worker. See _mailbox.pyx.

from proxy.dataplane._state cimport Letter

cdef Letter *letter_new(int kind) noexcept nogil
cdef void letter_free(Letter *letter) noexcept nogil
cdef int letter_text(Letter *letter, const void *data, Py_ssize_t n) noexcept nogil
cdef void mail_put(Letter **box, int event_fd, Letter *letter) noexcept nogil
cdef Letter *mail_take(Letter **box) noexcept nogil
