# Which entries of a unit are empty: STREAM.md, section 9. Every unit has its own permutation of its entries, and those
# that come first in it are empty.
#
# (a) A unit of few entries is permuted by the ranks of as many words. A larger one stands as a grid, filled row by row,
#     whose rows and columns are turned round in turn, each by a distance of its own: an entry's place costs eight look-ups.
# (b) Some units at once, so that either of entries and units may be what lies side by side in memory.

cdef enum:
    TILE_UNITS = 16
    FEW_ENTRIES = 128
    TURNS = 4                  # of all rows, and of all columns

cdef struct grid_t:
    int32_t rows, columns      # as far as columns go in the last row, they are full
    int32_t last               # entries in the last row


cdef void auxiliary_words(philox_state* state, uint64_t group, int64_t count, uint32_t* out) noexcept nogil:
    """`count` words from this group of the auxiliary blocks on, in stream order, rounded up to whole batches."""
    cdef batch_words words
    cdef uint32_t first_block[GROUPS]
    cdef int64_t batch
    cdef uint64_t block, high
    cdef int i, k
    for batch in range((count + BATCH - 1) // BATCH):
        block = (<uint64_t> 1 << 63) + ((group + <uint64_t> batch * GROUPS) << 3)
        high = (block + 8 * (GROUPS - 1)) >> 32
        if <uint32_t> high != state.high or high != block >> 32:
            # Across a multiple of 2^32 blocks group by group.
            for i in range(GROUPS):
                philox_start(state, state.seed, state.stream, <uint32_t> ((block + 8 * i) >> 32))
                for k in range(GROUPS):
                    first_block[k] = <uint32_t> (block + 8 * i)
                philox_batch(state, first_block, words.even, words.odd)
                for k in range(ROW):
                    out[batch * BATCH + 2 * ROW * i + 2 * k] = words.even[k]
                    out[batch * BATCH + 2 * ROW * i + 2 * k + 1] = words.odd[k]
            continue
        for i in range(GROUPS):
            first_block[i] = <uint32_t> block + 8 * i
        philox_batch(state, first_block, words.even, words.odd)
        for k in range(GROUPS * ROW):
            out[batch * BATCH + 2 * k] = words.even[k]
            out[batch * BATCH + 2 * k + 1] = words.odd[k]


cdef void turns_of(uint32_t* words, const grid_t* grid, int32_t* turns) noexcept nogil:
    """From words to distances: those of all rows, those of all columns, those of all rows ..."""
    cdef int32_t size
    cdef int turn, i
    for turn in range(TURNS):
        for i in range(grid.rows):
            size = grid.last if i == grid.rows - 1 else grid.columns
            turns[i] = <int32_t> ((<uint64_t> words[i] * <uint64_t> size) >> 32)
        turns += grid.rows
        words += grid.rows
        for i in range(grid.columns):
            size = grid.rows if i < grid.last else grid.rows - 1
            turns[i] = <int32_t> ((<uint64_t> words[i] * <uint64_t> size) >> 32)
        turns += grid.columns
        words += grid.columns


cdef void ranks_of(const uint32_t* words, int count, int32_t* ranks) noexcept nogil:
    """How many words are smaller, or equal and earlier."""
    cdef int i, k
    cdef int32_t rank
    for i in range(count):
        rank = 0
        for k in range(i):
            rank += words[k] <= words[i]
        for k in range(i + 1, count):
            rank += words[k] < words[i]
        ranks[i] = rank


cdef void kept_by_turns(
    uint32_t* kept, const int32_t* rows, const int32_t* columns, int count, const grid_t* grid, const int32_t* turns,
    int32_t zeros
) noexcept nogil:
    """All ones for each entry, given by its row and column, that is not empty; 0 for the others."""
    cdef int32_t row[BLOCK]
    cdef int32_t column[BLOCK]
    cdef int32_t most_rows = grid.rows, most_columns = grid.columns, last = grid.last, size, place
    cdef int turn, k
    for k in range(BLOCK):
        row[k] = rows[k] if k < count else 0
        column[k] = columns[k] if k < count else 0
    for turn in range(TURNS):
        for k in range(BLOCK):
            size = last if row[k] == most_rows - 1 else most_columns
            place = column[k] + turns[row[k]]
            column[k] = place - size if place >= size else place
        turns += most_rows
        for k in range(BLOCK):
            size = most_rows if column[k] < last else most_rows - 1
            place = row[k] + turns[column[k]]
            row[k] = place - size if place >= size else place
        turns += most_columns
    for k in range(BLOCK):
        kept[k] = 0xFFFFFFFF if row[k] * most_columns + column[k] >= zeros else 0


cdef void kept_by_ranks(
    uint32_t* kept, const int32_t* entries, int count, const int32_t* ranks, int32_t zeros
) noexcept nogil:
    cdef int k
    for k in range(count):
        kept[k] = 0xFFFFFFFF if ranks[entries[k]] >= zeros else 0


cdef inline void keep(char* item, uint32_t kept, int size) noexcept nogil:
    """Make an item 0 unless it is kept; no branch, which half of the time would be predicted wrongly."""
    cdef uint64_t eight
    cdef uint32_t four
    cdef uint16_t two
    if size == 4:
        memcpy(&four, item, 4)
        four &= kept
        memcpy(item, &four, 4)
    elif size == 2:
        memcpy(&two, item, 2)
        two &= <uint16_t> kept
        memcpy(item, &two, 2)
    elif size == 8:
        memcpy(&eight, item, 8)
        eight &= <uint64_t> <int64_t> <int32_t> kept
        memcpy(item, &eight, 8)
    else:
        item[0] = <char> (<uint8_t> item[0] & <uint8_t> kept)


cdef void keep_run(char* items, const uint32_t* kept, int count, int size) noexcept nogil:
    """Items side by side."""
    cdef int k
    if size == 4:
        for k in range(count):
            keep(items + 4 * k, kept[k], 4)
    elif size == 2:
        for k in range(count):
            keep(items + 2 * k, kept[k], 2)
    elif size == 8:
        for k in range(count):
            keep(items + 8 * k, kept[k], 8)
    else:
        for k in range(count):
            keep(items + k, kept[k], 1)


def empty_entries(
    cnp.ndarray out not None, cnp.ndarray units not None, cnp.ndarray unit_offsets not None,
    cnp.ndarray rows not None, cnp.ndarray columns not None, cnp.ndarray entry_offsets not None,
    int64_t entries, int32_t zeros, uint64_t seed, uint64_t stream, bint is_joined
):
    """Make 0 what is empty among some units and entries of an array.

    Parameters
    ----------
    out : ndarray
        Items of 1, 2, 4 or 8 bytes, any strides.
    units, unit_offsets : ndarray of int64
        The units' numbers, and their offsets in bytes.
    rows, columns, entry_offsets : ndarray of int32, int32, int64
        The entries' rows and columns in the grid (of few entries: 0 and their numbers), and their offsets.
    entries, zeros : int
        How many entries a unit has in all, and how many of them are empty.
    is_joined : bool
        Whether the entries lie side by side in memory.
    """
    cdef const int64_t* unit = <const int64_t*> cnp.PyArray_DATA(units)
    cdef const int64_t* unit_at = <const int64_t*> cnp.PyArray_DATA(unit_offsets)
    cdef const int32_t* row = <const int32_t*> cnp.PyArray_DATA(rows)
    cdef const int32_t* column = <const int32_t*> cnp.PyArray_DATA(columns)
    cdef const int64_t* entry_at = <const int64_t*> cnp.PyArray_DATA(entry_offsets)
    cdef char* target = <char*> cnp.PyArray_DATA(out)
    cdef int size = cnp.PyArray_ITEMSIZE(out), some, u, count, k
    cdef int64_t unit_count = cnp.PyArray_DIM(units, 0), count_in_all = cnp.PyArray_DIM(rows, 0), first, start, words
    cdef bint is_few = entries <= FEW_ENTRIES
    cdef grid_t grid
    cdef uint32_t kept[TILE_UNITS][BLOCK]
    cdef philox_state state
    cdef uint32_t* drawn
    cdef int32_t* tables
    grid.columns = <int32_t> grid_columns(entries)
    grid.rows = <int32_t> ((entries + grid.columns - 1) // grid.columns)
    grid.last = <int32_t> (entries - <int64_t> (grid.rows - 1) * grid.columns)
    words = entries if is_few else TURNS * (<int64_t> grid.rows + grid.columns)
    drawn = <uint32_t*> malloc((words + BATCH) * sizeof(uint32_t))
    tables = <int32_t*> malloc(TILE_UNITS * words * sizeof(int32_t))
    if drawn == NULL or tables == NULL:
        free(drawn)
        free(tables)
        raise MemoryError("no memory for the permutations of a sparse fill")
    with nogil:
        philox_start(&state, seed, stream, <uint32_t> 1 << 31)
        for first in range(0, unit_count, 16):  # TILE_UNITS
            some = <int> min(<int64_t> TILE_UNITS, unit_count - first)
            for u in range(some):
                auxiliary_words(&state, <uint64_t> unit[first + u] * <uint64_t> ((words + 31) // 32), words, drawn)
                if is_few:
                    ranks_of(drawn, <int> words, tables + u * words)
                else:
                    turns_of(drawn, &grid, tables + u * words)
            for start in range(0, count_in_all, 64):  # BLOCK
                count = <int> min(<int64_t> BLOCK, count_in_all - start)
                for u in range(some):
                    if is_few:
                        kept_by_ranks(kept[u], column + start, count, tables + u * words, zeros)
                    else:
                        kept_by_turns(kept[u], row + start, column + start, count, &grid, tables + u * words, zeros)
                    if is_joined:
                        keep_run(target + unit_at[first + u] + entry_at[start], kept[u], count, size)
                if not is_joined:
                    for k in range(count):
                        for u in range(some):
                            keep(target + unit_at[first + u] + entry_at[start + k], kept[u][k], size)
    free(drawn)
    free(tables)


def grid_columns(int64_t entries):
    """The columns of the grid: the smallest whole number whose square is not below `entries`; all of few entries."""
    cdef int64_t columns = 1
    if entries <= FEW_ENTRIES:
        return entries
    columns = <int64_t> sqrt(<double> entries)
    while columns * columns < entries:
        columns += 1
    while (columns - 1) * (columns - 1) >= entries:
        columns -= 1
    return columns
