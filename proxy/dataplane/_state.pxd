# The relay thread's world as C structs: channels, clients, servers, pools, targets, letters. Plain memory, no Python object inside.
#
# State is place: an object is on exactly one of the lists named beside its state, and the list's length is the count.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from proxy._wire cimport IoBuf
from proxy.net._tls cimport Tls
from proxy.pgsql._backend cimport Backend
from proxy.pgsql._frontend cimport Frontend
from proxy.pgsql._params cimport ParamSet, ParamTable
from proxy.pgsql._statements cimport KnownSet, Names, Statement, StatementTable
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
    REFUSE_TO_SYNC = 2           # the error is out; everything up to Sync is skipped

cdef struct Flight:              # a request under way whose text changes the virtual session
    Statement *text
    uint32_t done                # of its statements: so many are complete
    uint32_t at                  # in its effects: the next one
    uint8_t of_query             # ends with ReadyForQuery; else an Execute
    uint64_t may_unpin           # bit per PinReason: nothing sent since could have caused it anew

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
    Frontend fe
    uint8_t state                # ClientState
    uint8_t refusing             # RefuseState
    uint8_t refuse_with          # CloseReason whose error text is told
    uint8_t swallow              # the message in progress is not for any server
    uint8_t unsynced             # extended-protocol messages went out since the last Sync
    uint8_t resume               # bytes in `tail` may go on now
    uint8_t busy                 # a request is under way: latency is being measured
    uint8_t expired              # CloseReason: close for it at the end of the transaction
    uint8_t unnamed_kept         # the unnamed statement is too large to be prepared again: the server stays
    uint8_t hold                 # the message at hand waits for an answer to what has been sent before it
    uint8_t portal_known         # what the unnamed portal runs is in the books, and cannot end a transaction
    uint8_t named_effects        # a portal with a name may run something that changes the virtual session
    uint8_t again                # what is read next of it has failed once: see _mend
    uint8_t temporary            # the temporary schema is in its search_path
    uint8_t tls_on
    uint8_t key_size
    uint8_t key[32]              # of our own making, for CancelRequest
    uint8_t closing_as           # CloseReason
    int32_t slot                 # of the front's allocation; names the client in events
    uint32_t pid                 # what BackendKeyData told the client
    int endpoint
    Server *server
    Pool *pool
    ParamSet *told               # the ParameterStatus values this client has seen
    ParamSet *base               # settings: what the session began with, by startup packet
    ParamSet *now                # … what they are, as far as answers have come
    ParamSet *kept               # … as of the last end of a transaction
    ParamSet *meaning            # … of `now`, those on which the analysis of a statement may depend
    ParamSet *asked              # names whose values only the server knows
    ParamSet *touched            # names that were changed in the transaction
    Flight *flights              # oldest first
    uint32_t n_flights
    uint32_t flight_room
    uint64_t unpin               # pins that end if the transaction is kept
    Statement *portal            # what the unnamed portal runs, if that changes the virtual session
    Statement *unnamed
    Names names                  # of its prepared statements
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
    Backend be
    uint8_t state                # ServerState
    uint8_t cancels              # CancelRequests under way against it
    uint8_t in_transaction       # counted in the gauge
    uint8_t pinned               # counted in the gauge
    uint8_t born_read_only       # what it reported of that at its login
    uint8_t condemned            # CloseReason: to be closed, not lent, once it is idle
    uint8_t copy_failed          # CopyFail has been sent during cleanup
    uint8_t uncertain            # more may be prepared there than `known` says
    uint8_t cancel_later         # a cancel waits for the answer to a request of ours
    uint8_t replaying            # Query messages of ours under way that establish its client's settings
    uint8_t errored              # an error came since the last ReadyForQuery
    uint8_t stirred              # settings may have changed since the last end of a transaction
    uint8_t reported             # … and the server has said so of one
    uint8_t mend                 # Mend_
    uint16_t key_size
    uint8_t key[256]             # BackendKeyData of the database
    uint32_t backend_pid
    uint32_t unnamed             # number of the statement that is unnamed there; 0: none, or not known
    uint32_t batch               # counts Sync and Query
    KnownSet known               # prepared statements
    IoBuf again                  # the batch under way, until its first answer
    uint32_t id
    int permit
    int gen
    Client *client
    Pool *pool                   # until it parts
    Target *target
    ParamSet *params             # what it reports
    ParamSet *born               # what it reported at its login
    ParamSet *now                # settings that differ from those of its login
    ParamSet *kept               # … as of the last end of a transaction
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
    ParamTable params
    StatementTable statements
    IoBuf scratch                # a visit's bytes in translation
    const uint8_t *text          # of the Query or Bind at hand, for pins; NULL: not at hand
    Py_ssize_t text_size
    uint8_t *errors[64]          # by CloseReason: the ErrorResponse that tells it to a client
    int error_size[64]
    uint8_t *refusals[32]        # by PinReason: the ErrorResponse where pin_policy refuses it
    int refusal_size[32]
    uint8_t draining
    uint8_t stopping
    uint8_t drained_told
    uint64_t drain_ends
    uint64_t janitor_at
    uint64_t minute_at
    uint32_t next_server
    uint64_t *wk
