# What one call of fill has to do, as plain C that every kernel module reads without the GIL.

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum transform_name:  # in the order of TRANSFORMS in _plan.pyx
    WORDS32, CONSTANT32, UNIFORM32, NORMAL32, TRUNCATED_CENTRE32, TRUNCATED_NEAR32, TRUNCATED_FAR32,
    DISK32, TRUNCATED_DISK32, CONSTANT64, UNIFORM64, NORMAL64, TRUNCATED64, DISK64, TRUNCATED_DISK64

cdef enum store_name:  # in the order of STORES
    AS_IT_IS, BFLOAT16, FLOAT16, FLOAT8_E5M2, FLOAT8_E4M3FN

cdef enum:
    MOST_AXES = 64  # NumPy's own limit
    CONSTANTS = 10

cdef struct axis_t:
    int64_t extent
    int64_t stride     # bytes from one element to the next in the caller's memory
    uint64_t step      # elements from one to the next in the global tensor

cdef struct plan_t:
    uint64_t seed, stream
    transform_name transform
    store_name store
    double constants[CONSTANTS]
    int item_size
    int group_shift        # log2 of the values in a group of 32 words: 5, or 4 where a value takes two words
    char* data             # the element at index 0 of every axis ...
    uint64_t first_group   # ... and where it stands in the stream
    int first_place
    # The array as panels: `rows` (its memory-fastest axis but one, or the fastest if the logical order runs across the
    # memory) times `columns` (the last logical axis); outer axes pick the panel. A list of rows replaces the step of
    # one axis: -1 none, outer_rank the rows, else an outer axis.
    int outer_rank
    axis_t outer[MOST_AXES]
    axis_t rows, columns
    bint is_across         # columns lie farther apart in memory than rows
    bint is_aligned        # every element's address is a multiple of its size
    const int64_t* row_list
    int row_list_axis
    bint is_keyed          # the list holds streams: each row is a tensor of its own
    # Units of work: tiles of a panel, columns fastest.
    int64_t tile_rows, tile_columns, row_tiles, column_tiles, units

cdef class Plan:
    cdef plan_t c
    cdef object kept_alive
