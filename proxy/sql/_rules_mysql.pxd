# What a MySQL or MariaDB statement means for the session: fed with tokens by `_lex_mysql`, knows no bytes outside of them.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from proxy.sql._rules cimport Rules

# Beside the pins and LEX_DROP_DATABASE, LEX_TRANSACTION_START and LEX_EMPTY of `_rules.pxd`. LEX_DROP_DATABASE means DROP
# DATABASE or SCHEMA here: who has it as the current one has none afterwards.
cdef extern from *:
    """
    #define LEX_LAST_INSERT_ID     (UINT64_C(1) << 40)
    #define LEX_LAST_INSERT_ID_SET (UINT64_C(1) << 41)
    #define LEX_FOUND_ROWS         (UINT64_C(1) << 42)
    #define LEX_CALC_FOUND_ROWS    (UINT64_C(1) << 43)
    #define LEX_ROW_COUNT          (UINT64_C(1) << 44)
    #define LEX_DIAGNOSTICS        (UINT64_C(1) << 45)
    #define LEX_USE_DATABASE       (UINT64_C(1) << 46)
    #define LEX_MULTIPLE           (UINT64_C(1) << 47)
    """
    # These ask about the session's previous statement, so they want the server that ran it:
    const uint64_t LEX_LAST_INSERT_ID       # LAST_INSERT_ID(), @@last_insert_id, @@identity
    const uint64_t LEX_FOUND_ROWS           # FOUND_ROWS()
    const uint64_t LEX_ROW_COUNT            # ROW_COUNT()
    const uint64_t LEX_DIAGNOSTICS          # SHOW WARNINGS, SHOW ERRORS, GET DIAGNOSTICS, @@warning_count, @@error_count
    # These leave something to be asked for:
    const uint64_t LEX_LAST_INSERT_ID_SET   # LAST_INSERT_ID(expression)
    const uint64_t LEX_CALC_FOUND_ROWS      # SQL_CALC_FOUND_ROWS
    # And these are for whoever follows the current database:
    const uint64_t LEX_USE_DATABASE         # USE; the name is lex_database's, PIN_UNREADABLE comes with one that is not known
    const uint64_t LEX_MULTIPLE             # several statements: of several names lex_database knows the last

cdef enum MysqlToken:    # goes on behind Token of `_rules.pxd`, whose T_STRING has its text here if it was "double quoted"
    T_ASSIGN = 8         # :=
    T_COLON = 9
    T_USER = 10          # @  of a user variable, or of user@host; its name follows only if it is quoted
    T_SYSTEM = 11        # @@ the words of the name follow

# `Rules` as PostgreSQL's, but `call` is the state of a comment that is SQL for some servers, `commas` whether a statement
# has ended in this text, and `last` whether the scope of this SET is GLOBAL or PERSIST so far.
cdef void rules_mysql_start(Rules *r) noexcept nogil
cdef void rules_mysql_token(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil
cdef void rules_mysql_end(Rules *r) noexcept nogil           # of a statement: `;`, or the end of the text
# A comment begins or ends whose text is SQL for some servers and a comment for others.
cdef void rules_mysql_maybe(Rules *r, bint begins) noexcept nogil
# As `rules_notable` of `_rules.pxd`.
cdef const uint32_t *rules_mysql_notable() noexcept nogil
