/* Sums of products for blocks of 64 x 64 numbers: c[i][j] += a[i][0] b[0][j] + a[i][1] b[1][j] + ...
 *
 * Each sum is computed by itself, from 0, in the order of its terms, and is added to c at the end: lanes are neighbouring j, so that
 * it does not matter how wide a vector is or how many of them are worked on side by side. Products are rounded before they
 * are added (no fused multiply-add). Written with the vector extension that gcc and clang share; for other compilers a vector is
 * one number. The body is written once, as a macro, for float and double. */
#ifndef WINIT_FAST_MATRIX_H
#define WINIT_FAST_MATRIX_H

#include <stddef.h>

#include "sizes.h"

/* Bytes of a vector, and how many rows of c are summed side by side: as many as there are registers for. */
#if !defined(__GNUC__) || defined(WINIT_FAST_PORTABLE)
#define MATRIX_NO_VECTORS
enum { MATRIX_ROWS = 4 };
#elif defined(__AVX512F__)
#define MATRIX_VECTOR 64
enum { MATRIX_ROWS = 8 };
#elif defined(__AVX__)
#define MATRIX_VECTOR 32
enum { MATRIX_ROWS = 4 };
#elif defined(__aarch64__)
#define MATRIX_VECTOR 16
enum { MATRIX_ROWS = 8 };
#else
#define MATRIX_VECTOR 16
enum { MATRIX_ROWS = 4 };
#endif

#if defined(MATRIX_NO_VECTORS)
typedef float matrix_float;
typedef double matrix_double;
#define MATRIX_UNROLL
#else
/* At the address of any number: buffers need not be aligned, and are read as plain numbers elsewhere. */
typedef float matrix_float __attribute__((vector_size(MATRIX_VECTOR), aligned(4), may_alias));
typedef double matrix_double __attribute__((vector_size(MATRIX_VECTOR), aligned(8), may_alias));
#if defined(__clang__)
#define MATRIX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MATRIX_UNROLL _Pragma("GCC unroll 8")
#endif
#endif

/* a[i][k] stands at a[i * a_row + k * a_term]. `rows` and `columns` are rounded up to what is worked on side by side: a and
 * c must have such rows, b and c such columns, with any finite numbers in them. terms <= MATRIX_BLOCK is the caller's choice. */
#define MATRIX_MULTIPLY_ADD(NAME, REAL, VECTOR)                                                                        \
    static void NAME(REAL *c, const REAL *a, ptrdiff_t a_row, ptrdiff_t a_term, const REAL *b, int rows, int columns, \
                     int terms)                                                                                        \
    {                                                                                                                  \
        enum { LANES = sizeof(VECTOR) / sizeof(REAL) };                                                                \
        for (int column = 0; column < columns; column += 2 * LANES)                                                    \
            for (int row = 0; row < rows; row += MATRIX_ROWS) {                                                        \
                VECTOR left[MATRIX_ROWS], right[MATRIX_ROWS];                                                          \
                MATRIX_UNROLL                                                                                          \
                for (int i = 0; i < MATRIX_ROWS; i++)                                                                  \
                    left[i] = right[i] = (VECTOR){0};                                                                  \
                for (int term = 0; term < terms; term++) {                                                             \
                    const REAL *factors = a + row * a_row + term * a_term;                                             \
                    const REAL *numbers = b + term * MATRIX_BLOCK + column;                                            \
                    const VECTOR first = *(const VECTOR *)numbers, second = *(const VECTOR *)(numbers + LANES);        \
                    MATRIX_UNROLL                                                                                      \
                    for (int i = 0; i < MATRIX_ROWS; i++) {                                                            \
                        const REAL factor = factors[i * a_row];                                                        \
                        left[i] = left[i] + factor * first;                                                            \
                        right[i] = right[i] + factor * second;                                                         \
                    }                                                                                                  \
                }                                                                                                      \
                MATRIX_UNROLL                                                                                          \
                for (int i = 0; i < MATRIX_ROWS; i++) {                                                                \
                    VECTOR *sums = (VECTOR *)(c + (row + i) * MATRIX_BLOCK + column);                                  \
                    VECTOR *more = (VECTOR *)(c + (row + i) * MATRIX_BLOCK + column + LANES);                          \
                    *sums = *sums + left[i];                                                                           \
                    *more = *more + right[i];                                                                          \
                }                                                                                                      \
            }                                                                                                          \
    }

MATRIX_MULTIPLY_ADD(multiply_add_float, float, matrix_float)
MATRIX_MULTIPLY_ADD(multiply_add_double, double, matrix_double)

/* One row of a block: target[j] -= factor * source[j], another row. */
#define MATRIX_SUBTRACT_ROW(NAME, REAL, VECTOR)                                                                        \
    static inline void NAME(REAL *target, REAL factor, const REAL *source)                                             \
    {                                                                                                                  \
        enum { LANES = sizeof(VECTOR) / sizeof(REAL) };                                                                \
        for (int column = 0; column < MATRIX_BLOCK; column += LANES) {                                                 \
            VECTOR *difference = (VECTOR *)(target + column);                                                          \
            *difference = *difference - factor * *(const VECTOR *)(source + column);                                   \
        }                                                                                                              \
    }

MATRIX_SUBTRACT_ROW(subtract_row_float, float, matrix_float)
MATRIX_SUBTRACT_ROW(subtract_row_double, double, matrix_double)

#undef MATRIX_MULTIPLY_ADD
#undef MATRIX_SUBTRACT_ROW
#undef MATRIX_UNROLL

#endif
