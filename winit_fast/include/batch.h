/* What a batch is worked on in. Aligned, or every second vector of 64 bytes would lie across two cache lines. */
#ifndef WINIT_FAST_BATCH_H
#define WINIT_FAST_BATCH_H

#include <stdint.h>

#include "sizes.h"

#if defined(_MSC_VER)
#define BATCH_ALIGNED __declspec(align(64))
#else
#define BATCH_ALIGNED __attribute__((aligned(64)))
#endif

typedef struct {
    BATCH_ALIGNED uint32_t even[BATCH / 2];
    BATCH_ALIGNED uint32_t odd[BATCH / 2];
} batch_words;

/* One object that may be written as any of these types. */
typedef union {
    BATCH_ALIGNED float singles[BATCH];
    double doubles[BATCH / 2];
    uint32_t words[BATCH];
    uint16_t halves[BATCH];
    uint8_t bytes[BATCH];
} batch_values;

/* The values of a batch, and before them what the batch before it left of a line. */
typedef struct {
    BATCH_ALIGNED char begun[64];
    batch_values values;
} batch_lines;

#endif
