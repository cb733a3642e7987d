# What a statement means for the session: fed with tokens by `_lex`, knows no bytes outside of them.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from *:
    """
    #define LEX_DROP_DATABASE     (UINT64_C(1) << 32)
    #define LEX_TRANSACTION_START (UINT64_C(1) << 33)
    #define LEX_EMPTY             (UINT64_C(1) << 34)
    #define LEX_EFFECTS           (UINT64_C(1) << 35)
    #define LEX_TRANSACTION_END   (UINT64_C(1) << 36)
    #define LEX_ENDS              (UINT64_C(1) << 37)
    #define LEX_LOCAL             (UINT64_C(1) << 38)
    """
    const uint64_t LEX_DROP_DATABASE        # a database that must have no idle session: dropped, renamed, moved, copied
    const uint64_t LEX_TRANSACTION_START    # some statement is BEGIN or START TRANSACTION
    const uint64_t LEX_EMPTY                # blanks, comments and `;` only: the server answers EmptyQueryResponse
    const uint64_t LEX_EFFECTS              # settings or prepared statements change: `_effects` reads how
    const uint64_t LEX_TRANSACTION_END      # some statement could end a transaction block, also one that has failed
    const uint64_t LEX_LOCAL                # settings change, for their transaction only
    const uint64_t LEX_ENDS                 # what has pinned may be gone behind it: unlock, UNLISTEN, CLOSE, DROP, DISCARD

cdef enum Token:
    T_WORD = 0           # unquoted identifier or keyword, not yet folded
    T_NAME = 1           # quoted identifier, quotes taken off; n = 0 when its text is not known
    T_STRING = 2         # a string constant begins
    T_OPEN = 3           # (  depth is already counted
    T_CLOSE = 4          # )
    T_COMMA = 5
    T_DOT = 6
    T_OTHER = 7          # numbers, parameters, operators, brackets

cdef struct Rules:
    uint64_t mask        # 1 << PinReason, and the LEX_ bits
    uint32_t statements  # that have ended, empty ones not counted: each is answered by one CommandComplete
    uint32_t ended       # the empty ones included
    uint32_t depth       # of parentheses
    uint32_t call        # depth inside the set_config( ... ) being read; 0: none
    uint8_t hot          # every next token matters; otherwise only notable words and `;` do
    uint8_t writes       # the statement begins with UPDATE or WITH
    uint8_t seen         # the statement is not empty
    uint8_t head         # how far the beginning of the statement is understood
    uint8_t prev         # the token just before, where it is a word of ours
    uint8_t commas       # of that set_config
    uint8_t last         # its last argument so far: nothing, the one word `true`, anything else
    uint8_t name_len
    uint8_t[64] name     # the database of LEX_DROP_DATABASE

cdef void rules_start(Rules *r) noexcept nogil
cdef void rules_token(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil
cdef void rules_end(Rules *r) noexcept nogil                # of a statement: `;` at depth 0, or the end of the text
cdef void rules_pin(Rules *r, uint8_t reason) noexcept nogil
# Words that matter wherever they stand: bit (first letter & 31) of [length], length < 64. Others may share the bit.
cdef const uint32_t *rules_notable() noexcept nogil
