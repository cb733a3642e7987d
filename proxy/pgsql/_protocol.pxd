# Message types of the PostgreSQL frontend/backend protocol 3, by the manual's names.
# https://www.postgresql.org/docs/current/protocol-message-formats.html

from libc.stdint cimport uint8_t, uint32_t

cdef enum Frontend_:
    BIND = 0x42                  # B
    CLOSE = 0x43                 # C
    DESCRIBE = 0x44              # D
    EXECUTE = 0x45               # E
    FUNCTION_CALL = 0x46         # F
    FLUSH = 0x48                 # H
    PARSE = 0x50                 # P
    QUERY = 0x51                 # Q
    SYNC = 0x53                  # S
    TERMINATE = 0x58             # X
    COPY_DONE = 0x63             # c   both directions
    COPY_DATA = 0x64             # d   both directions
    COPY_FAIL = 0x66             # f

cdef enum Backend_:
    PARSE_COMPLETE = 0x31        # 1
    BIND_COMPLETE = 0x32         # 2
    CLOSE_COMPLETE = 0x33        # 3
    NOTIFICATION_RESPONSE = 0x41  # A
    COMMAND_COMPLETE = 0x43      # C
    DATA_ROW = 0x44              # D
    ERROR_RESPONSE = 0x45        # E
    COPY_IN_RESPONSE = 0x47      # G
    COPY_OUT_RESPONSE = 0x48     # H
    EMPTY_QUERY_RESPONSE = 0x49  # I
    NOTICE_RESPONSE = 0x4E       # N
    PARAMETER_STATUS = 0x53      # S
    ROW_DESCRIPTION = 0x54       # T
    FUNCTION_CALL_RESPONSE = 0x56  # V
    COPY_BOTH_RESPONSE = 0x57    # W
    READY_FOR_QUERY = 0x5A       # Z
    NO_DATA = 0x6E               # n
    PORTAL_SUSPENDED = 0x73      # s
    PARAMETER_DESCRIPTION = 0x74  # t

cdef enum Limits_:
    MAX_MESSAGE = 0x3FFFFFFE     # length word; what a server accepts: PQ_LARGE_MESSAGE_LIMIT (MaxAllocSize - 1)
    MAX_SMALL_MESSAGE = 10000    # length word; its PQ_SMALL_MESSAGE_LIMIT, for messages without user data
    MAX_ANSWER = 0x40000002      # length word; what a server can build: a body below MaxAllocSize, and the word itself

cdef enum TxStatus_:
    TX_IDLE = 0x49               # I
    TX_OPEN = 0x54               # T
    TX_FAILED = 0x45             # E
