# What one call of fill has to do, as plain C that every kernel module reads without the GIL.

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef enum transform_name:  # in the order of TRANSFORMS in _plan.pyx
    WORDS32, CONSTANT32, UNIFORM32, NORMAL32, TRUNCATED_CENTRE32, TRUNCATED_NEAR32, TRUNCATED_FAR32,
    DISK32, TRUNCATED_DISK32, CONSTANT64, UNIFORM64, NORMAL64, TRUNCATED64, DISK64, TRUNCATED_DISK64

cdef enum store_name:  # in the order of STORES
    AS_IT_IS, BFLOAT16, FLOAT16, FLOAT8_E5M2, FLOAT8_E4M3FN

cdef extern from "sizes.h":
    cpdef enum:
        GROUP_WORDS, ROW, GROUPS, BATCH, MATRIX_BLOCK, TILE_UNITS, FEW_ENTRIES, MOST_MARKS

cpdef enum:
    MOST_AXES = 64  # NumPy's own limit

# The index of each constant of a transform. lowering.py writes the constants under these names and transforms.pxi reads
# them so; the names are those of STREAM.md.
cpdef enum:
    CONSTANT_VALUE = 0
    UNIFORM_LOW = 0, UNIFORM_WIDTH, UNIFORM_MAXIMUM
    NORMAL_MEAN = 0, NORMAL_STD
    CENTRE_MEAN = 0, CENTRE_STD, CENTRE_SCALE, CENTRE_MINIMUM, CENTRE_MAXIMUM
    TRUNCATED_MEAN = 0, TRUNCATED_STD, TRUNCATED_MINIMUM, TRUNCATED_MAXIMUM, TRUNCATED_THRESHOLD
    TRUNCATED_LEFT, TRUNCATED_RIGHT, TRUNCATED_SLOPE, TRUNCATED_BASE, TRUNCATED_MEDIAN  # the last in float64 alone
    DISK_RADIUS = 0, DISK_BASE, DISK_SLOPE  # the last two where the disk is truncated
    CONSTANTS = 10  # as many as any transform has

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
    uint64_t first_group   # ... and its group and place in the stream
    int first_place
    # The array as panels: `rows` (its memory-fastest axis but one, or the fastest if the logical order runs across the
    # memory) times `columns` (the last logical axis); outer axes pick the panel. A list of rows replaces the step of
    # one axis: -1 none, outer_rank the rows, else an outer axis.
    int outer_rank
    axis_t outer[MOST_AXES]
    axis_t rows, columns
    bint is_across         # columns lie farther apart in memory than rows
    bint is_aligned        # every element's address is a multiple of its size
    bint is_past_cache     # long runs are written past the cache
    const int64_t* row_list
    int row_list_axis
    bint is_keyed          # the list holds streams: each row is a tensor of its own
    # Units of work: tiles of a panel, columns fastest.
    int64_t tile_rows, tile_columns, row_tiles, column_tiles, units

cdef class Plan:
    cdef plan_t c
    cdef object kept_alive
