/* Copies a rectangle so that its rows become columns, items of 1, 2 or 4 bytes, in blocks that fill vector registers.
 *
 * Written with the vector extension that gcc (from 12) and clang share: the shuffles below are single instructions of
 * SSE2 and NEON. Other compilers copy item by item. */
#ifndef WINIT_FAST_TRANSPOSE_H
#define WINIT_FAST_TRANSPOSE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TRANSPOSE_VECTORS
#endif
#endif

#if defined(TRANSPOSE_VECTORS)
typedef uint8_t items1 __attribute__((vector_size(16)));
typedef uint16_t items2 __attribute__((vector_size(16)));
typedef uint32_t items4 __attribute__((vector_size(16)));
typedef uint64_t items8 __attribute__((vector_size(16)));
#define LOW1(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH1(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define LOW2(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH2(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW4(a, b) (items4) __builtin_shufflevector((items4)(a), (items4)(b), 0, 4, 1, 5)
#define HIGH4(a, b) (items4) __builtin_shufflevector((items4)(a), (items4)(b), 2, 6, 3, 7)
#define LOW8(a, b) (items8) __builtin_shufflevector((items8)(a), (items8)(b), 0, 2)
#define HIGH8(a, b) (items8) __builtin_shufflevector((items8)(a), (items8)(b), 1, 3)

/* target[c][r] = source[r][c] for a block of 4 x 4 items of 4 bytes; the strides are those of rows of either, in bytes. */
static inline void transpose_block4(char *target, int64_t target_stride, const char *source, int64_t source_stride)
{
    items4 row[4], low[2], high[2];
    items8 column[4];
    for (int r = 0; r < 4; r++)
        memcpy(&row[r], source + r * source_stride, 16);
    for (int half = 0; half < 2; half++) {
        low[half] = LOW4(row[2 * half], row[2 * half + 1]);
        high[half] = HIGH4(row[2 * half], row[2 * half + 1]);
    }
    column[0] = LOW8(low[0], low[1]);
    column[1] = HIGH8(low[0], low[1]);
    column[2] = LOW8(high[0], high[1]);
    column[3] = HIGH8(high[0], high[1]);
    for (int c = 0; c < 4; c++)
        memcpy(target + c * target_stride, &column[c], 16);
}

/* The same for 8 x 8 items of 2 bytes. */
static inline void transpose_block2(char *target, int64_t target_stride, const char *source, int64_t source_stride)
{
    items2 row[8];
    items4 pairs[8];
    items8 column[8];
    for (int r = 0; r < 8; r++)
        memcpy(&row[r], source + r * source_stride, 16);
    for (int r = 0; r < 4; r++) { /* pairs[2 r], pairs[2 r + 1]: columns 0-3 and 4-7 of rows 2 r and 2 r + 1 */
        pairs[2 * r] = (items4)LOW2(row[2 * r], row[2 * r + 1]);
        pairs[2 * r + 1] = (items4)HIGH2(row[2 * r], row[2 * r + 1]);
    }
    for (int part = 0; part < 2; part++) {
        const items4 first = LOW4(pairs[part], pairs[2 + part]), second = HIGH4(pairs[part], pairs[2 + part]);
        const items4 third = LOW4(pairs[4 + part], pairs[6 + part]), fourth = HIGH4(pairs[4 + part], pairs[6 + part]);
        column[4 * part] = LOW8(first, third);
        column[4 * part + 1] = HIGH8(first, third);
        column[4 * part + 2] = LOW8(second, fourth);
        column[4 * part + 3] = HIGH8(second, fourth);
    }
    for (int c = 0; c < 8; c++)
        memcpy(target + c * target_stride, &column[c], 16);
}

/* The same for 16 x 16 bytes, from this column of rows anywhere on: four times, rows 8 apart are interleaved, so that a byte's row moves into its place bit by bit. */
static inline void transpose_bytes16(char *target, ptrdiff_t target_stride, const char *const *source, ptrdiff_t column)
{
    items1 row[16], next[16];
    for (int r = 0; r < 16; r++)
        memcpy(&row[r], source[r] + column, 16);
    for (int step = 0; step < 4; step++) {
        for (int r = 0; r < 8; r++) {
            next[2 * r] = LOW1(row[r], row[r + 8]);
            next[2 * r + 1] = HIGH1(row[r], row[r + 8]);
        }
        memcpy(row, next, sizeof row);
    }
    for (int c = 0; c < 16; c++)
        memcpy(target + c * target_stride, &row[c], 16);
}

static inline int transpose_block_items(int item_size) { return item_size == 4 ? 4 : item_size == 2 ? 8 : 1; }

static inline void transpose_block(char *target, int64_t target_stride, const char *source, int64_t source_stride,
                                   int item_size)
{
    if (item_size == 4)
        transpose_block4(target, target_stride, source, source_stride);
    else if (item_size == 2)
        transpose_block2(target, target_stride, source, source_stride);
    else
        memcpy(target, source, (size_t)item_size);
}
#undef LOW1
#undef HIGH1
#undef LOW2
#undef HIGH2
#undef LOW4
#undef HIGH4
#undef LOW8
#undef HIGH8
#else
static inline int transpose_block_items(int item_size) { (void)item_size; return 1; }
static inline void transpose_block(char *target, int64_t target_stride, const char *source, int64_t source_stride,
                                   int item_size)
{
    (void)target_stride;
    (void)source_stride;
    memcpy(target, source, (size_t)item_size);
}
static inline void transpose_bytes16(char *target, ptrdiff_t target_stride, const char *const *source, ptrdiff_t column)
{
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++)
            target[c * target_stride + r] = source[r][column + c];
}
#endif

/* A grid of bytes, turned and transposed: target[column][row] = source[row][column + turns[row]]. Rows are rounded up to 16 in
 * the source, columns in both; turns has an entry for every row that is asked for. */
static inline void transpose_turned(char *target, ptrdiff_t target_stride, const char *source, ptrdiff_t source_stride,
                                    const int32_t *turns, ptrdiff_t rows, ptrdiff_t columns)
{
    for (ptrdiff_t row = 0; row < rows; row += 16) {
        const char *start[16];
        for (ptrdiff_t r = 0; r < 16; r++)
            start[r] = source + (row + r) * source_stride + (row + r < rows ? turns[row + r] : 0);
        for (ptrdiff_t column = 0; column < columns; column += 16)
            transpose_bytes16(target + column * target_stride + row, target_stride, start, column);
    }
}

#endif
