# The relay thread's world as C structs: channels, clients, servers, pools, targets, letters. Plain memory, no Python object inside.
#
# State is place: an object is on exactly one of the lists named beside its state, and the list's length is the count.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from proxy._wire cimport IoBuf
from proxy.net._tls cimport Tls
from proxy.shm._segment cimport Shm

# ---------------------------------------------------------------- intrusive lists

cdef struct Link:
    Link *prev
    Link *next

cdef inline void list_init(Link *head) noexcept nogil:
    head.prev = head
    head.next = head

cdef inline bint list_empty(const Link *head) noexcept nogil:
    return head.next == head

cdef inline bint linked(const Link *node) noexcept nogil:
    return node.next != NULL and node.next != node

cdef inline void list_remove(Link *node) noexcept nogil:
    """Off whatever list it is on; a node on no list points at itself."""
    node.prev.next = node.next
    node.next.prev = node.prev
    node.prev = node
    node.next = node

cdef inline void list_append(Link *head, Link *node) noexcept nogil:
    """To the tail, from wherever it is."""
    list_remove(node)
    node.prev = head.prev
    node.next = head
    head.prev.next = node
    head.prev = node

cdef inline void list_prepend(Link *head, Link *node) noexcept nogil:
    """To the front, from wherever it is."""
    list_remove(node)
    node.next = head.next
    node.prev = head
    head.next.prev = node
    head.next = node

# ---------------------------------------------------------------- a socket and what is left to do on it

cdef struct Chan:
    Link ready                   # Relay.ready, when it has to be visited this turn
    int fd                       # -1: closed, waiting on Relay.graves for the end of the turn
    uint8_t is_server
    uint8_t readable             # edge-triggered: the kernel said so, and no short read has contradicted
    uint8_t writable
    uint8_t hup                  # the peer has closed its side (or both)
    uint8_t broken               # a send or TLS failed: only closing is left
    Tls *tls
    IoBuf tail                   # received, not yet understood or not yet allowed to go on
    IoBuf out                    # accepted for sending (without TLS; with it, the session's outbox)

# ---------------------------------------------------------------- engines

cdef struct Client
cdef struct Server
cdef struct Relay_

cdef enum:
    ENGINES = 2                  # engine families there is room for
    BUFFER_BYTES = 131072        # Relay_.buf

cdef enum Cancel_:               # what is to be done with a cancel request of the client's
    CANCEL_DROP = 0              # nothing of the client's is under way
    CANCEL_NOW = 1
    CANCEL_LATER = 2             # it would hit a request of ours: the engine calls session_cancel_now when that is answered

cdef enum Abandoned_:            # bits: what a client leaves behind
    ABANDONED_HALF = 1           # half a message, or a batch without its end
    ABANDONED_DOUBTFUL = 2       # the server's state cannot be proven
    ABANDONED_ASKED = 4          # answers are owed
    ABANDONED_BOUND = 8          # it was pinned, or bound otherwise
    ABANDONED_UNKNOWN = 16       # what its client changed there is not known

cdef struct Engine:
    # An engine family, as the relay sees it; see _engine.pyx. Its clients and servers begin with a Client, a Server.
    int number
    size_t client_size
    size_t server_size
    bint (*begin)(Relay_ *r) noexcept nogil                      # a relay thread; False: no memory
    void (*end)(Relay_ *r) noexcept nogil
    # a client: `told` are the messages it was given about its session, `settings` what it began with, in the engine's own form
    bint (*client_begin)(
        Relay_ *r, Client *c, const uint8_t *told, Py_ssize_t n, const uint8_t *settings, Py_ssize_t m,
    ) noexcept nogil
    void (*client_end)(Relay_ *r, Client *c) noexcept nogil
    void (*client_read)(Relay_ *r, Client *c, uint8_t *buf, Py_ssize_t n) noexcept nogil
    bint (*client_between)(const Client *c) noexcept nogil       # no message is begun, no batch is open
    bint (*client_waits)(const Client *c) noexcept nogil         # what comes next of it is not to be read yet
    # a pair
    void (*attach)(Relay_ *r, Client *c, Server *s) noexcept nogil
    void (*detach)(Server *s) noexcept nogil
    bint (*part)(Relay_ *r, Client *c, Server *s) noexcept nogil     # between transactions; False: not yet, something was asked
    bint (*bound)(const Client *c) noexcept nogil                # keeps its server though it is not pinned
    int (*abandon)(Relay_ *r, Client *c, Server *s) noexcept nogil       # Abandoned_
    # a server
    bint (*server_begin)(
        Relay_ *r, Server *s, const uint8_t *told, Py_ssize_t n, const uint8_t *settings, Py_ssize_t m,
    ) noexcept nogil
    void (*server_end)(Relay_ *r, Server *s) noexcept nogil
    void (*server_read)(Relay_ *r, Server *s, uint8_t *buf, Py_ssize_t n) noexcept nogil
    bint (*server_idle)(const Server *s) noexcept nogil          # every reply has come, no transaction is open
    bint (*server_cut)(const Server *s) noexcept nogil           # half a message has come
    bint (*server_dying)(const Server *s) noexcept nogil         # it has said its last words
    uint32_t (*server_owed)(const Server *s) noexcept nogil      # replies
    int (*server_unfit)(const Server *s) noexcept nogil          # CloseReason for which it must not be lent; 0: none
    int (*server_status)(const Server *s) noexcept nogil         # of its transaction: I, T, E
    int (*cleanup)(Relay_ *r, Server *s) noexcept nogil          # the next step; 1: at rest, 0: under way, -1: doubtful
    void (*goodbye)(Server *s) noexcept nogil
    Cancel_ (*cancel)(Server *s) noexcept nogil
    # pins
    void (*pinned)(Client *c, uint64_t reasons) noexcept nogil   # (again) by what goes now
    uint64_t (*askable)() noexcept nogil                         # bit per PinReason: an audit can find that nothing is left
    bint (*audit)(Relay_ *r, Client *c, Server *s, bint thorough) noexcept nogil
    int (*digest)(const Client *c, const uint8_t *text, Py_ssize_t n, uint8_t *out, int size) noexcept nogil

# ---------------------------------------------------------------- clients

cdef struct Line:                # clients of one idle timeout: each list is in the order in which its members fall due
    uint64_t timeout
    Link clients

cpdef enum ClientState:
    CLIENT_READY = 0             # between requests, or with a server and working
    CLIENT_WAITING = 1           # on Pool.waiting: its request is in `tail`
    CLIENT_CLOSING = 2           # the last words are in `out`; closes when they are gone (Relay.closing)
    CLIENT_LINGERING = 3         # half closed, reads until the peer closes too (Relay.closing)

cpdef enum RefuseState:
    REFUSE_NONE = 0
    REFUSE_NEXT = 1              # the request at hand is answered by `refuse_with`
    REFUSE_REST = 2              # the error is out; what belongs to the request is skipped

cdef struct Pin:                 # what a pinned client's pin is about
    Link place                   # first; Relay.pinned
    Client *client
    uint64_t since
    uint64_t rests_since         # its server has nothing to do since then; 0: it has
    uint64_t rested              # … so long in earlier rests
    uint64_t asked               # bit per PinReason: those that the audit under way may end
    uint64_t gone                # … and those of which it has found nothing
    uint64_t audited_at          # the last thorough one
    uint64_t next_audit          # not before
    uint32_t audits
    uint8_t in_vain              # in a row
    uint8_t ending               # a text went by behind which what has pinned may be gone
    uint8_t reason               # PinReason: the first
    int digest_size
    uint8_t digest[480]          # of the text that pinned first

cdef struct Client:
    Chan ch                      # first: a Chan* of a client is a Client*
    Link place                   # Pool.waiting or Relay.closing, by state; else on no list
    Link activity                # Line.clients: those of its idle timeout, longest silent first
    Link age                     # Relay.clients: all clients
    const Engine *engine
    uint8_t state                # ClientState
    uint8_t refusing             # RefuseState
    uint8_t refuse_with          # CloseReason whose error text is told
    uint8_t resume               # bytes in `tail` may go on now
    uint8_t busy                 # a request is under way: latency is being measured
    uint8_t expired              # CloseReason: close for it at the end of the transaction
    uint8_t hold                 # the message at hand waits for an answer to what has been sent before it
    uint8_t tls_on
    uint8_t key_size
    uint8_t key[32]              # of our own making, for CancelRequest
    uint8_t closing_as           # CloseReason
    int32_t slot                 # of the front's allocation; names the client in events
    uint32_t pid                 # what BackendKeyData told the client
    int endpoint
    Server *server
    Pool *pool
    uint64_t pins                # bit per PinReason
    Pin *pin                     # NULL: not pinned, or no memory to say more
    uint64_t *ep                 # counters of its endpoint
    uint64_t connected_at        # all times: monotonic, nanoseconds
    uint64_t active_at
    uint64_t asked_at            # when the request under way arrived
    uint64_t sent_at             # when it went to the server
    uint64_t idle_timeout        # 0: none
    Line *line
    uint64_t life_ends           # 0: never
    uint64_t closing_ends
    uint64_t queries
    char *about                  # peer, user, database, application: four C strings, for people
    uint16_t about_size

# ---------------------------------------------------------------- server connections

cpdef enum ServerState:
    SERVER_IDLE = 0              # Pool.idle
    SERVER_BUSY = 1              # lent: `client` is set; on no list
    SERVER_CLEANUP = 2           # its client left; being brought back to a known state (Relay.cleanups)
    SERVER_HELD = 3              # proven idle, but a cancel request under way could still hit it (Relay.held)
    SERVER_PARTING = 4           # told to go, in no pool; its permit is free when the database has closed (Relay.parting)

cdef struct Server:
    Chan ch                      # first: a Chan* of a server is a Server*
    Link place
    Link age                     # Pool.servers: all of the pool, oldest first
    const Engine *engine
    uint8_t state                # ServerState
    uint8_t cancels              # CancelRequests under way against it
    uint8_t in_transaction       # counted in the gauge
    uint8_t pinned               # counted in the gauge
    uint8_t cleanup_stage        # the engine's own, 0 at the begin of a cleanup
    uint8_t condemned            # CloseReason: to be closed, not lent, once it is idle
    uint16_t key_size
    uint8_t key[256]             # BackendKeyData of the database
    uint32_t backend_pid
    uint32_t id
    int permit
    int gen
    Client *client
    Pool *pool                   # until it parts
    Target *target
    uint64_t opened_at
    uint64_t idle_since
    uint64_t life_ends
    uint64_t cleanup_ends
    uint64_t cleanup_bytes
    uint64_t borrows

# ---------------------------------------------------------------- pools and targets

cdef struct Target:
    int slot
    int held                     # permits of this worker
    int parting                  # of these, on their way back
    int surplus                  # connections to give up because the ceiling was lowered
    uint8_t paused
    uint64_t yielded_at          # when one was last given up for a waiter that was overdue elsewhere
    uint64_t turn_ends           # until then more than our share may be kept: a waiter of ours was overdue
    uint8_t wanting              # our want word in shared memory is set
    uint64_t *tg                 # counters

cdef struct Terms:               # of a pool, on its way to the relay
    uint64_t audit_after
    uint64_t ignored
    uint64_t refused
    uint32_t max_prepared

cdef struct Pool:
    Link idle                    # last used first: the oldest idle ones get old enough to be closed
    Link waiting                 # clients, first come first served
    Link servers                 # all, oldest first
    int id
    int gen
    Target *target
    int n_idle
    int n_servers
    int n_waiting
    int n_opening
    int n_clients
    int max_idle
    uint8_t init_opaque          # its servers have settings by init_query that nobody could read
    uint8_t wanted               # a login waits for the pool's first connection
    uint8_t failures             # in a row
    uint64_t retry_at
    uint64_t wanted_since
    uint64_t empty_since
    uint64_t vacate_until        # its database is being dropped: what comes free is closed
    uint64_t borrow_timeout
    uint64_t idle_timeout
    uint64_t life
    uint64_t audit_after         # 0: never
    uint64_t ignored             # bit per PinReason that does not pin here
    uint64_t refused             # … whose statements are refused
    uint32_t max_prepared        # statements kept prepared on one server
    char database[64]

# ---------------------------------------------------------------- letters: between the front and the relay thread

cdef struct Letter:
    Letter *next
    int kind
    int64_t a
    int64_t b
    int64_t c
    int64_t d
    double x
    double y
    double z
    void *p                      # an owned struct (Client*, Server*) or array
    uint8_t *text                # owned bytes
    int64_t size

# ---------------------------------------------------------------- from a list's link to what is on it

cdef inline Chan *chan_of_place(Link *place) noexcept nogil:
    return <Chan*>(<char*>place - sizeof(Chan))   # `place` follows `ch` in Client and Server alike

cdef inline Client *client_of_age(Link *age) noexcept nogil:
    cdef Client probe            # only its layout is used
    return <Client*>(<char*>age - (<char*>&probe.age - <char*>&probe))

cdef inline Client *client_of_activity(Link *activity) noexcept nogil:
    cdef Client probe            # only its layout is used
    return <Client*>(<char*>activity - (<char*>&probe.activity - <char*>&probe))

cdef inline Server *server_of_age(Link *age) noexcept nogil:
    cdef Server probe            # only its layout is used
    return <Server*>(<char*>age - (<char*>&probe.age - <char*>&probe))

# ---------------------------------------------------------------- the thread itself

cdef struct Words:               # of an engine: whole messages that tell a client why
    uint8_t *errors[64]          # by CloseReason
    int error_size[64]
    uint8_t *refusals[32]        # by PinReason, where pin_policy refuses it
    int refusal_size[32]

cdef struct Relay_:
    Shm shm
    int worker
    int epoll_fd
    int mail_fd                  # eventfd: letters from the front
    int event_fd                 # eventfd: letters to the front
    Letter *inbox                # lock-free stacks, see _mailbox
    Letter *outbox
    uint64_t now
    uint8_t *buf                 # the receive buffer of the thread: an idle connection owns none
    Link ready
    Link clients
    Line lines[32]               # by idle timeout; more different ones than that share the last
    int n_lines
    Link closing
    Link cleanups
    Link held
    Link parting
    Link pinned
    Link graves
    Pool **pools
    int n_pools                  # size of the array; NULL where no pool is
    Target targets[64]
    Client **slots
    int n_slots
    int n_clients
    int n_servers
    IoBuf scratch                # a visit's bytes in translation
    const uint8_t *text          # of the request at hand, for pins; NULL: not at hand
    Py_ssize_t text_size
    Words words[ENGINES]
    void *tables[ENGINES]        # what an engine keeps for all its clients of this thread
    uint8_t draining
    uint8_t stopping
    uint8_t drained_told
    uint64_t drain_ends
    uint64_t janitor_at
    uint64_t minute_at
    uint32_t next_server
    uint64_t *wk
