# Why a connection was closed, pinned or refused: the one list that log, counters, admin views and errors share.
# C constants for the relay, IntEnums for Python (through proxy.reasons). Values are stable: they index shared-memory arrays.

cpdef enum CloseReason:
    CLOSE_NONE = 0
    # the client's own doing
    CLIENT_TERMINATED = 1            # Terminate / COM_QUIT
    CLIENT_GONE = 2                  # EOF or reset without Terminate
    CLIENT_PROTOCOL_VIOLATION = 3
    # limits of ours, on the client
    CLIENT_IDLE_TIMEOUT = 4
    CLIENT_LIFE_REACHED = 5
    BORROW_TIMEOUT = 6
    CLIENT_DRAINED = 7               # drain or graceful shutdown, between transactions
    CLIENT_SHUTDOWN = 8              # fast shutdown, or the drain deadline passed
    CLIENT_KILLED = 9                # by an operator
    SERVER_LOST = 10                 # the server connection under this client died
    SERVER_LOGIN_FAILED = 11         # permanent refusal by the database, passed on
    LOGIN_FAILED = 12                # authentication, startup limits
    ENDPOINT_REMOVED = 13
    # server connections
    SERVER_EOF = 20
    SERVER_FATAL = 21                # FATAL or PANIC from the server
    SERVER_PROTOCOL_VIOLATION = 22
    SERVER_IDLE_TIMEOUT = 23
    SERVER_LIFE_REACHED = 24
    SERVER_CLIENT_LEFT = 25          # its client left in the middle of something that cannot be undone safely
    SERVER_CLIENT_LEFT_PINNED = 26
    SERVER_CLEANUP_TIMEOUT = 27      # rollback or drain of an abandoned query took too long
    SERVER_DOUBTFUL = 28             # state not provable (unread bytes, COPY in doubt)
    SERVER_CONFIG_CHANGED = 29
    SERVER_PERMIT_WANTED = 30        # given up so that another pool or worker can connect
    SERVER_DATABASE_DROPPED = 31     # made way for DROP DATABASE
    SERVER_SHUTDOWN = 32
    SERVER_WRITE_FAILED = 33
    SERVER_IDLE_EXCESS = 34          # above max_idle_connections_percent
    SERVER_UNWANTED = 35             # opened, but its pool is gone
    SERVER_ROLE_CHANGED = 36         # it has become read-only under an open connection
    CLIENT_STATE_LOST = 37           # its settings could not be established on another server connection
    SERVER_STATE_UNKNOWN = 38        # what its client changed there is not known for certain
    CLOSE_REASON_COUNT = 39

cpdef enum PinReason:
    PIN_NONE = 0
    PIN_SETTING = 1                  # a setting was changed in a way that is not readable
    PIN_ROLE = 2                     # MySQL: SET ROLE
    PIN_PREPARED_PROTOCOL = 3        # named Parse
    PIN_PREPARED_SQL = 4             # PREPARE, EXECUTE
    PIN_TEMPORARY_OBJECT = 5
    PIN_CURSOR = 6                   # DECLARE
    PIN_LISTEN = 7
    PIN_LOAD = 8
    PIN_SEQUENCE = 9                 # nextval, setval, currval, lastval
    PIN_ADVISORY_LOCK = 10
    PIN_DISCARD = 11
    PIN_DO_BLOCK = 12                # DO: text in another language, not evaluated
    PIN_ENCODING = 13                # client_encoding whose bytes the lexer cannot read for certain
    PIN_UNREADABLE = 14              # unterminated string, comment or quote
    PIN_REPLICATION = 15             # CopyBoth
    PIN_COPY_IN_DOUBT = 16           # Sync sent during a COPY that failed: the number of answers is unknown
    PIN_FUNCTION = 17                # a function was called whose state no statement takes back (setseed, dblink_connect)
    PIN_USER_VARIABLE = 18           # MySQL: SET @x, @x := …, SELECT … INTO @x
    PIN_TABLE_LOCK = 19              # MySQL: LOCK TABLES, FLUSH TABLES WITH READ LOCK, LOCK INSTANCE
    PIN_XA = 20                      # MySQL: XA START to XA PREPARE
    PIN_REASON_COUNT = 21

cpdef enum ConnectFailure:
    CONNECT_TEMPORARY = 0            # refused, timed out, starting up, too many connections: retry with back-off
    CONNECT_PERMANENT = 1            # wrong password, no such database or role, bad setting: tell the waiters
