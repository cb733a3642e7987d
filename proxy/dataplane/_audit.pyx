"""Debug builds only: the relay's books are checked ten times a second, and a contradiction ends the process where it is found.

State is place: every count must be the length of its list, every pair must point at each other, every permit must be somebody's.
"""

from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort

from proxy.dataplane._state cimport (
    CLIENT_WAITING, Client, Link, Pool, Relay_, SERVER_BUSY, SERVER_IDLE, Server,
    chan_of_place, client_of_age, linked, server_of_age,
)


cdef int _length(const Link *head) noexcept nogil:
    cdef int n = 0
    cdef const Link *at = head.next
    while at != head:
        if at.next.prev != at:
            _fail(b"a list is torn", n)
        at = at.next
        n += 1
    return n


cdef void _fail(const char *what, int number) noexcept nogil:
    fprintf(stderr, b"relay audit: %s (%d)\n", what, number)
    abort()


cdef void _pool(Pool *q) noexcept nogil:
    cdef Link *at = q.servers.next
    cdef Server *s
    if _length(&q.idle) != q.n_idle:
        _fail(b"a pool's idle count is wrong", q.id)
    if _length(&q.waiting) != q.n_waiting:
        _fail(b"a pool's waiting count is wrong", q.id)
    if _length(&q.servers) != q.n_servers:
        _fail(b"a pool's server count is wrong", q.id)
    if q.n_opening < 0 or q.n_clients < 0:
        _fail(b"a pool's openings or clients are negative", q.id)
    while at != &q.servers:
        s = server_of_age(at)
        at = at.next
        if s.pool != q or s.ch.fd < 0:
            _fail(b"a closed or foreign server is in a pool", <int>s.id)
        if (s.state == SERVER_BUSY) != (s.client != NULL):
            _fail(b"a server is lent to nobody, or not lent and has a client", <int>s.id)
        if s.client != NULL and s.client.server != s:
            _fail(b"a server's client has another server", <int>s.id)
        if s.state == SERVER_IDLE and (s.engine.server_owed(s) or s.engine.server_cut(s) or s.pinned or s.in_transaction):
            _fail(b"an idle server is not idle", <int>s.id)
        if s.state != SERVER_BUSY and not linked(&s.place):
            _fail(b"a server is in no place", <int>s.id)


cdef void audit(Relay_ *r) noexcept nogil:
    cdef Link *at = r.clients.next
    cdef Client *c
    cdef int i, servers = 0, clients = 0, silent = 0
    cdef int held[64]
    cdef Link *at_server
    for i in range(64):
        held[i] = 0
    for i in range(r.n_pools):
        if r.pools[i] != NULL:
            _pool(r.pools[i])
            servers += r.pools[i].n_servers
            clients += r.pools[i].n_clients
            held[r.pools[i].target.slot] += r.pools[i].n_servers + r.pools[i].n_opening
    at_server = r.parting.next
    while at_server != &r.parting:
        held[(<Server*>chan_of_place(at_server)).target.slot] += 1
        at_server = at_server.next
    if servers != r.n_servers:
        _fail(b"the servers do not add up", servers)
    for i in range(r.n_lines):
        silent += _length(&r.lines[i].clients)
    if clients != r.n_clients or _length(&r.clients) != clients or silent != clients:
        _fail(b"the clients do not add up", clients)
    for i in range(64):
        if held[i] != r.targets[i].held:
            _fail(b"the permits of a target do not add up", i)
    while at != &r.clients:
        c = client_of_age(at)
        at = at.next
        if c.server != NULL and c.server.client != c:
            _fail(b"a client's server has another client", c.slot)
        if (c.state == CLIENT_WAITING) and (c.server != NULL or not linked(&c.place)):
            _fail(b"a waiting client has a server or stands in no line", c.slot)
        if r.slots[c.slot] != c:
            _fail(b"a client is not in its slot", c.slot)
