# 64 bytes of SQL as bits: SSE2 where the machine has it, byte by byte elsewhere.

from libc.stdint cimport uint8_t, uint64_t

from proxy.sql._chars cimport FLAGS

cdef extern from *:
    """
    #include <stdint.h>
    /* a bit per byte of 64 */
    typedef struct {
        uint64_t ident;      /* may go on in an identifier */
        uint64_t means;      /* " ' ( ) - / ; $ */
        uint64_t digit;
        uint64_t first;      /* a letter with which a notable word begins */
    } SqlMasks;
    #define SQL_MEANS(c) ( \\
        (c) == '"' || (c) == '\\'' || (c) == '(' || (c) == ')' || (c) == '-' || (c) == '/' || (c) == ';' || \\
        (c) == '$')
    #define SQL_FIRST(c) ( \\
        (c) == 'c' || (c) == 'd' || (c) == 'i' || (c) == 'l' || (c) == 'm' || (c) == 'n' || (c) == 'p' || (c) == 's' || (c) == 'u')

    static void __attribute__((unused)) sql_masks_by_byte(const uint8_t *p, SqlMasks *out) {
        SqlMasks m = {0, 0, 0, 0};
        for (int i = 0; i < 64; i++) {
            m.ident |= (uint64_t)(SQL_FLAGS[p[i]] & 1) << i;
            m.means |= (uint64_t)SQL_MEANS(p[i]) << i;
            m.digit |= (uint64_t)(SQL_FLAGS[p[i]] >> 2 & 1) << i;
            m.first |= (uint64_t)SQL_FIRST(p[i] | 0x20) << i;
        }
        *out = m;
    }

    #ifdef __SSE2__
    #include <emmintrin.h>
    /* `low` and the `count` - 1 bytes behind it, as 0xFF */
    #define SQL_RANGE(x, low, count) \\
        _mm_cmplt_epi8(_mm_add_epi8(x, _mm_set1_epi8((char)(128 - (low)))), _mm_set1_epi8((char)(-128 + (count))))
    #define SQL_IS(x, c) _mm_cmpeq_epi8(x, _mm_set1_epi8(c))
    #define SQL_OR(x, y) _mm_or_si128(x, y)
    #define SQL_BITS(x) ((uint64_t)(uint16_t)_mm_movemask_epi8(x))
    static inline void sql_masks(const uint8_t *p, SqlMasks *out) {
        SqlMasks m = {0, 0, 0, 0};
        #pragma GCC unroll 4
        for (int i = 0; i < 64; i += 16) {
            const __m128i x = _mm_loadu_si128((const __m128i *)(p + i));
            const __m128i low = SQL_OR(x, _mm_set1_epi8(32));
            const __m128i digit = SQL_RANGE(x, '0', 10), dollar = SQL_IS(x, '$');
            /* a byte above 0x7F has its highest bit set already */
            m.ident |= SQL_BITS(SQL_OR(SQL_OR(SQL_OR(SQL_RANGE(low, 'a', 26), digit), SQL_OR(dollar, SQL_IS(x, '_'))), x)) << i;
            m.means |= SQL_BITS(SQL_OR(SQL_OR(SQL_RANGE(x, '\\'', 3), SQL_IS(x, '"')),    /* ' ( ) */
                                       SQL_OR(SQL_OR(dollar, SQL_IS(x, ';')), SQL_OR(SQL_IS(x, '-'), SQL_IS(x, '/'))))) << i;
            m.digit |= SQL_BITS(digit) << i;
            m.first |= SQL_BITS(SQL_OR(SQL_OR(SQL_RANGE(low, 'l', 3), SQL_RANGE(low, 'c', 2)), SQL_OR(
                SQL_OR(SQL_IS(low, 'i'), SQL_IS(low, 'p')), SQL_OR(SQL_IS(low, 's'), SQL_IS(low, 'u'))))) << i;
        }
        *out = m;
    }
    #else
    #define sql_masks sql_masks_by_byte
    #endif
    """
    ctypedef struct SqlMasks:
        uint64_t ident
        uint64_t means
        uint64_t digit
        uint64_t first
    void sql_masks(const uint8_t *p, SqlMasks *out) noexcept nogil
    void sql_masks_by_byte(const uint8_t *p, SqlMasks *out) noexcept nogil
    int ctz "__builtin_ctzll"(uint64_t) noexcept nogil
    int clz "__builtin_clzll"(uint64_t) noexcept nogil
