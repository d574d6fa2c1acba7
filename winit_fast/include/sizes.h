/* Sizes that several files share, defined here alone. C includes this file, Cython reads it through _plan.pxd, Python
 * from winit_fast._plan. */
#ifndef WINIT_FAST_SIZES_H
#define WINIT_FAST_SIZES_H

enum {
    /* Philox (philox.h). With half as many groups, the cost of calls and of spreading constants shows. */
    GROUP_BLOCKS = 8,                 /* blocks of four words in a group */
    ROW = 2 * GROUP_BLOCKS,           /* words in each of the two rows of a group */
    GROUP_WORDS = 2 * ROW,
    GROUPS = 8,                       /* groups in a batch */
    BATCH = GROUPS * GROUP_WORDS,     /* words in a batch: as many values of 32 bits */

    /* Orthogonal matrices (matrix.h, orthogonal.pxi) */
    MATRIX_BLOCK = 64,                /* rows and columns of a block, whose rows are contiguous; terms of one sum */

    /* Sparse weights (sparse.pxi) */
    TILE_UNITS = 16,                  /* units that are worked on at once */
    FEW_ENTRIES = 128,                /* units of at most so many entries are permuted by ranks, larger ones as grids */
    MOST_MARKS = 1 << 22              /* bytes of marks for all units of a tile; a grid takes six times as much more */
};

#endif
