"""What the relay thread has, as rows of numbers for the admin views. Written between two turns, read by the front thread."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport strlen

from proxy._wire cimport IoBuf, iobuf_free, iobuf_put
from proxy.dataplane._events cimport EVENT_DUMP
from proxy.dataplane._mailbox cimport letter_new, mail_put
from proxy.dataplane._pool cimport pool_longest_waiter
from proxy.dataplane._state cimport CLIENT_WAITING, Client, Letter, Link, Pin, Pool, Relay_, SERVER_IDLE, Server, server_of_age
from proxy.shm._segment cimport limit_get

CLIENT_COLUMNS = (
    "slot", "state", "pool_id", "server_id", "pins", "age_ms", "idle_ms", "wait_ms", "queries", "endpoint", "tls", "owed",
    "pid", "pinned_ms",
)
SERVER_COLUMNS = (
    "server_id", "state", "pool_id", "client_slot", "backend_pid", "age_ms", "idle_ms", "tx_status", "pins", "borrows", "target",
    "tls", "cancels", "permit", "owed",
)
POOL_COLUMNS = (
    "pool_id", "target", "clients", "waiting", "idle", "servers", "opening", "failures", "longest_wait_ms", "paused", "limit",
    "held", "gen",
)
PIN_COLUMNS = (
    "slot", "server_id", "pool_id", "pins", "pinned_ms", "held_ms", "audits", "backend_pid", "queries",
)

cdef enum Widths_:
    CLIENT_WIDTH = 14
    SERVER_WIDTH = 15
    POOL_WIDTH = 13
    PIN_WIDTH = 9


cdef int64_t _ms(uint64_t now, uint64_t since) noexcept nogil:
    return <int64_t>((now - since) // 1000000) if since and now >= since else 0


cdef void _post(Relay_ *r, int64_t request, int what, int64_t *rows, int64_t n, IoBuf *text) noexcept nogil:
    cdef Letter *letter = letter_new(EVENT_DUMP)
    if letter == NULL:
        free(rows)
        iobuf_free(text)
        return
    letter.a = request
    letter.b = what
    letter.c = n
    letter.p = rows
    letter.text = text.data      # grown from its begin: position 0
    letter.size = text.end
    mail_put(&r.outbox, r.event_fd, letter)


cdef void _empty(IoBuf *b) noexcept nogil:
    b.data = NULL
    b.pos = b.end = b.cap = 0


cdef void dump_clients(Relay_ *r, int64_t request) noexcept nogil:
    cdef int64_t *rows = <int64_t*>malloc((r.n_clients + 1) * CLIENT_WIDTH * sizeof(int64_t))
    cdef int64_t *row = rows
    cdef IoBuf text
    cdef Client *c
    cdef int i
    cdef int64_t n = 0
    _empty(&text)
    for i in range(r.n_slots):
        c = r.slots[i]
        if c == NULL or rows == NULL or n >= r.n_clients:
            continue
        row[0] = c.slot
        row[1] = c.state
        row[2] = c.pool.id
        row[3] = c.server.id if c.server != NULL else -1
        row[4] = <int64_t>c.pins
        row[5] = _ms(r.now, c.connected_at)
        row[6] = _ms(r.now, c.active_at)
        row[7] = _ms(r.now, c.asked_at) if c.state == CLIENT_WAITING else -1
        row[8] = <int64_t>c.queries
        row[9] = c.endpoint
        row[10] = c.tls_on
        row[11] = c.engine.server_owed(c.server) if c.server != NULL else 0
        row[12] = c.pid
        row[13] = _ms(r.now, c.pin.since) if c.pin != NULL else -1
        row += CLIENT_WIDTH
        n += 1
        iobuf_put(&text, <uint8_t*>c.about, c.about_size)
        iobuf_put(&text, b"\n", 1)
    _post(r, request, 0, rows, n, &text)


cdef void dump_servers(Relay_ *r, int64_t request) noexcept nogil:
    cdef int64_t *rows = <int64_t*>malloc((r.n_servers + 1) * SERVER_WIDTH * sizeof(int64_t))
    cdef int64_t *row = rows
    cdef IoBuf text
    cdef Server *s
    cdef Link *at
    cdef int i
    cdef int64_t n = 0
    _empty(&text)
    for i in range(r.n_pools):
        if r.pools[i] == NULL or rows == NULL:
            continue
        at = r.pools[i].servers.next
        while at != &r.pools[i].servers and n < r.n_servers:
            s = server_of_age(at)
            at = at.next
            row[0] = s.id
            row[1] = s.state
            row[2] = s.pool.id
            row[3] = s.client.slot if s.client != NULL else -1
            row[4] = s.backend_pid
            row[5] = _ms(r.now, s.opened_at)
            row[6] = _ms(r.now, s.idle_since) if s.state == SERVER_IDLE else -1
            row[7] = s.engine.server_status(s)
            row[8] = <int64_t>s.client.pins if s.client != NULL else 0
            row[9] = <int64_t>s.borrows
            row[10] = s.pool.target.slot
            row[11] = s.ch.tls != NULL
            row[12] = s.cancels
            row[13] = s.permit
            row[14] = s.engine.server_owed(s)
            row += SERVER_WIDTH
            n += 1
    _post(r, request, 1, rows, n, &text)


cdef void dump_pools(Relay_ *r, int64_t request) noexcept nogil:
    cdef int64_t *rows = <int64_t*>malloc((r.n_pools + 1) * POOL_WIDTH * sizeof(int64_t))
    cdef int64_t *row = rows
    cdef IoBuf text
    cdef Pool *q
    cdef Client *c
    cdef int i
    cdef int64_t n = 0
    _empty(&text)
    for i in range(r.n_pools):
        q = r.pools[i]
        if q == NULL or rows == NULL:
            continue
        c = NULL if q.n_waiting == 0 else pool_longest_waiter(q)
        row[0] = q.id
        row[1] = q.target.slot
        row[2] = q.n_clients
        row[3] = q.n_waiting
        row[4] = q.n_idle
        row[5] = q.n_servers
        row[6] = q.n_opening
        row[7] = q.failures
        row[8] = _ms(r.now, c.asked_at) if c != NULL else 0
        row[9] = q.target.paused
        row[10] = limit_get(&r.shm, q.target.slot)
        row[11] = q.target.held
        row[12] = q.gen
        row += POOL_WIDTH
        n += 1
        iobuf_put(&text, <uint8_t*>&q.database[0], strlen(&q.database[0]))
        iobuf_put(&text, b"\n", 1)
    _post(r, request, 2, rows, n, &text)


cdef void dump_pins(Relay_ *r, int64_t request) noexcept nogil:
    """held_ms: how long the database connection has waited for its client since it is pinned."""
    cdef int64_t *rows = <int64_t*>malloc((r.n_servers + 1) * PIN_WIDTH * sizeof(int64_t))
    cdef int64_t *row = rows
    cdef IoBuf text
    cdef Link *at = r.pinned.next
    cdef Pin *pin
    cdef Client *c
    cdef uint8_t digest[512]
    cdef int i
    cdef int64_t n = 0
    _empty(&text)
    while at != &r.pinned and rows != NULL and n < r.n_servers:
        pin = <Pin*>at
        at = at.next
        c = pin.client
        if c.server == NULL:
            continue
        row[0] = c.slot
        row[1] = c.server.id
        row[2] = c.pool.id
        row[3] = <int64_t>c.pins
        row[4] = _ms(r.now, pin.since)
        row[5] = <int64_t>(pin.rested // 1000000) + _ms(r.now, pin.rests_since)
        row[6] = pin.audits
        row[7] = c.server.backend_pid
        row[8] = <int64_t>c.queries
        row += PIN_WIDTH
        n += 1
        for i in range(pin.digest_size):
            digest[i] = pin.digest[i] if pin.digest[i] >= 0x20 else 0x20     # of a quoted name
        iobuf_put(&text, <uint8_t*>c.about, c.about_size)
        iobuf_put(&text, b"", 1)
        iobuf_put(&text, &digest[0], pin.digest_size)
        iobuf_put(&text, b"\n", 1)
    _post(r, request, 3, rows, n, &text)
