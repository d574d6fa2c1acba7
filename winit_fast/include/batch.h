/* What a batch is worked on in. Aligned, or every second vector of 64 bytes would lie across two cache lines. */
#ifndef WINIT_FAST_BATCH_H
#define WINIT_FAST_BATCH_H

#include <stdint.h>

#include "philox.h"

#if defined(_MSC_VER)
#define BATCH_ALIGNED __declspec(align(64))
#else
#define BATCH_ALIGNED __attribute__((aligned(64)))
#endif

enum { BATCH_ROWS = PHILOX_GROUPS * PHILOX_ROW };

typedef struct {
    BATCH_ALIGNED uint32_t even[BATCH_ROWS];
    BATCH_ALIGNED uint32_t odd[BATCH_ROWS];
} batch_words;

/* One object that may be written as any of these types. */
typedef union {
    BATCH_ALIGNED float singles[2 * BATCH_ROWS];
    double doubles[BATCH_ROWS];
    uint32_t words[2 * BATCH_ROWS];
    uint16_t halves[2 * BATCH_ROWS];
    uint8_t bytes[2 * BATCH_ROWS];
} batch_values;

#endif
