# What a client says, message by message. See _frontend.pyx.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from proxy._wire cimport Step, View
from proxy.sql._lex cimport Lex

cpdef enum FrontendFault:
    FE_OK = 0
    FE_UNKNOWN_TYPE = 1
    FE_BAD_LENGTH = 2
    FE_BAD_NAME = 3              # a statement or portal name without an end

cdef struct Frontend:
    uint8_t kind                 # type of the message in progress; 0 between messages
    uint8_t owed                 # OwedKind: what the server will owe for it
    uint8_t part                 # where in a Parse or Query we are (Part_)
    uint8_t begins               # this step began a message
    uint8_t ends                 # this step ended it
    uint8_t named                # the Parse in progress names its statement
    uint8_t fault                # FrontendFault, after VIOLATION
    uint8_t std_strings          # standard_conforming_strings of this session
    uint8_t ascii_safe           # client_encoding has no ASCII bytes inside characters
    uint8_t defer                # a whole Parse is not lexed here: the session knows the statement already, or lexes it
    uint8_t whole                # this step shows the message whole
    uint8_t object               # of a Describe or Close: S or P
    uint32_t name_at             # of Parse, Bind, Describe, Close at their begin: offset of the statement (or portal) name
    uint32_t name_size           # without the NUL
    uint32_t left                # bytes of the message still to come
    uint64_t touches             # of the message that just ended: PinReason bits and LEX_ bits of its text
    Lex lex

cdef void frontend_init(Frontend *f) noexcept nogil
cdef Step frontend_step(Frontend *f, const View *v, Py_ssize_t *n) noexcept nogil
cdef Step frontend_peek(const View *v, uint32_t *length) noexcept nogil
cdef inline void frontend_unread(Frontend *f) noexcept nogil:
    """The message whose begin was the last step has not been read after all."""
    f.kind = 0
    f.left = 0
