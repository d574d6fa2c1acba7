# Which entries of a unit are empty: STREAM.md, section 9. Every unit has its own permutation of its entries, and those
# that come first in it are empty.
#
# (a) A unit of few entries is permuted by the ranks of as many words. A larger one is a grid, filled row by row,
#     whose rows and columns are rotated in turn, each by a distance of its own: an entry's place costs eight look-ups.
# (b) If many entries of a unit are wanted, look-ups are too slow (7 ns an entry). The grid then starts with a mark at each
#     place that is kept, and the turns are undone: each row is kept twice, side by side, so that one copy from the distance
#     on rotates it, and that copy transposes the grid for the next turn.
# (c) Some units at once, so that either of entries and units may be what lies side by side in memory.

cdef extern from "transpose.h" nogil:
    void transpose_turned(
        char* target, Py_ssize_t target_stride, const char* source, Py_ssize_t source_stride, const int32_t* turns,
        Py_ssize_t rows, Py_ssize_t columns)

from winit_fast._plan cimport FEW_ENTRIES, MOST_MARKS, TILE_UNITS

cdef enum:
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


cdef void keep_ranks(char* kept, const uint32_t* words, int count, int zeros) noexcept nogil:
    """Mark the entries whose word has a rank of `zeros` or more; equal words rank by their number.

    Words are counted by their leading bits. Those below the leading bits of the word of rank `zeros` are known to be
    empty, those above to be kept, and the few that share them are compared.
    """
    cdef int counts[64]
    cdef int members[FEW_ENTRIES]
    cdef int i, k, bucket = 0, before = 0, rank, shared = 0
    memset(counts, 0, sizeof(counts))
    for i in range(count):
        counts[words[i] >> 26] += 1
    while bucket < 63 and before + counts[bucket] <= zeros:
        before += counts[bucket]
        bucket += 1
    for i in range(count):
        kept[i] = <int> (words[i] >> 26) > bucket
    for i in range(count):
        members[shared] = i
        shared += <int> (words[i] >> 26) == bucket
    for i in range(shared):
        rank = before
        for k in range(shared):
            rank += words[members[k]] < words[members[i]] or (words[members[k]] == words[members[i]] and k < i)
        kept[members[i]] = rank >= zeros


cdef inline void copy16(char* target, const char* source, int32_t size) noexcept nogil:
    """At least `size` bytes, in pieces of 16: a call of memcpy costs more than the short rows of a grid."""
    cdef int32_t i
    for i in range(0, size, 16):
        memcpy(target + i, source + i, 16)


cdef inline void double_row(char* row, int32_t size) noexcept nogil:
    """Pieces of 16 may overlap where the row is shorter, and are read whole before they are written."""
    cdef char piece[16]
    cdef int32_t i
    for i in range(0, size, 16):
        memcpy(piece, row + i, 16)
        memcpy(row + size + i, piece, 16)


cdef void mark_grid(char* tall, const grid_t* grid, int64_t zeros) noexcept nogil:
    """A mark at every place that is kept, column by column; each column is kept twice."""
    cdef int64_t stride = doubled(grid.rows)
    cdef int32_t row, column
    for column in range(grid.columns):
        for row in range(grid.rows):
            tall[column * stride + row] = <int64_t> row * grid.columns + column >= zeros
        double_row(tall + column * stride, grid.rows if column < grid.last else grid.rows - 1)


cdef void keep_grid(
    char* kept, const char* marked, char* wide, char* tall, const grid_t* grid, const int32_t* turns
) noexcept nogil:
    """Mark all entries that are kept: the turns undone, from the last to the first.

    `marked` is what `mark_grid` makes; `wide` and `tall` hold the grid and its transpose. Behind `kept` there are 15 bytes
    more.
    """
    cdef int64_t width = doubled(grid.columns), height = doubled(grid.rows)
    cdef const int32_t* distances = turns + TURNS * (<int64_t> grid.rows + grid.columns)
    cdef int32_t row, column
    cdef int turn
    for turn in range(TURNS):
        distances -= grid.columns
        transpose_turned(wide, width, marked if turn == 0 else tall, height, distances, grid.columns, grid.rows)
        for row in range(grid.rows):
            double_row(wide + row * width, grid.last if row == grid.rows - 1 else grid.columns)
        distances -= grid.rows
        if turn < TURNS - 1:
            transpose_turned(tall, height, wide, width, distances, grid.rows, grid.columns)
            for column in range(grid.columns):
                double_row(tall + column * height, grid.rows if column < grid.last else grid.rows - 1)
    for row in range(grid.rows):
        copy16(kept + <int64_t> row * grid.columns, wide + row * width + distances[row],
               grid.last if row == grid.rows - 1 else grid.columns)


cdef inline int64_t doubled(int64_t count) noexcept nogil:
    """Bytes of a row that is kept twice, with what is written and read beyond it in pieces of 16."""
    return 2 * ((count + 15) // 16 * 16) + 16


cdef void keep_entries(
    char* kept, const int32_t* entries, int64_t first, int64_t count, const grid_t* grid, const int32_t* turns, int32_t zeros
) noexcept nogil:
    """Mark those of some entries that are kept, each looked up by itself."""
    cdef const int32_t* distances
    cdef int32_t row, column, size
    cdef int64_t i, entry
    cdef int turn
    for i in range(count):
        entry = first + i if entries == NULL else entries[i]
        row, column = <int32_t> (entry // grid.columns), <int32_t> (entry % grid.columns)
        distances = turns
        for turn in range(TURNS):
            size = grid.last if row == grid.rows - 1 else grid.columns
            column += distances[row]
            column -= size if column >= size else 0
            distances += grid.rows
            size = grid.rows if column < grid.last else grid.rows - 1
            row += distances[column]
            row -= size if row >= size else 0
            distances += grid.columns
        kept[i] = <int64_t> row * grid.columns + column >= zeros


cdef inline void keep_item(char* item, int32_t mask, int size) noexcept nogil:
    """An item where the mask is all ones, else 0; no branch, which half of the time would be predicted wrongly."""
    cdef int64_t eight
    cdef int32_t four
    cdef int16_t two
    if size == 4:
        memcpy(&four, item, 4)
        four &= mask
        memcpy(item, &four, 4)
    elif size == 2:
        memcpy(&two, item, 2)
        two &= <int16_t> mask
        memcpy(item, &two, 2)
    elif size == 8:
        memcpy(&eight, item, 8)
        eight &= <int64_t> mask
        memcpy(item, &eight, 8)
    else:
        item[0] = <char> (<int32_t> item[0] & mask)


cdef void keep_run(char* items, const char* kept, int64_t count, int size) noexcept nogil:
    """Items side by side."""
    cdef int64_t k
    if size == 4:
        for k in range(count):
            keep_item(items + 4 * k, -<int32_t> kept[k], 4)
    elif size == 2:
        for k in range(count):
            keep_item(items + 2 * k, -<int32_t> kept[k], 2)
    elif size == 8:
        for k in range(count):
            keep_item(items + 8 * k, -<int32_t> kept[k], 8)
    else:
        for k in range(count):
            keep_item(items + k, -<int32_t> kept[k], 1)


cdef void empty_tile(
    char* target, const int64_t* unit_offsets, int units, const int32_t* entries, const int64_t* entry_offsets,
    int64_t offset, int64_t stride, int64_t count, const char* kept, int64_t marks, int size
) noexcept nogil:
    """`entries`: where the marks of an entry stand; NULL: one after the other. So with offsets: NULL: a stride apart."""
    cdef char square[16 * 16]
    cdef int32_t nowhere[16]
    cdef int64_t k = 0, mark
    cdef int u, i
    if entries == NULL and entry_offsets == NULL and stride == size:
        for u in range(units):
            keep_run(target + unit_offsets[u] + offset, kept + u * marks, count, size)
        return
    if entries == NULL and units == TILE_UNITS and follows(unit_offsets, units, size):
        memset(nowhere, 0, sizeof(nowhere))
        while k + 16 <= count:
            transpose_turned(square, 16, kept + k, marks, nowhere, 16, 16)
            for i in range(16):
                keep_run(
                    target + unit_offsets[0] + (offset + (k + i) * stride if entry_offsets == NULL else entry_offsets[k + i]),
                    square + 16 * i, 16, size)
            k += 16
    while k < count:
        mark = k if entries == NULL else entries[k]
        for u in range(units):
            keep_item(
                target + unit_offsets[u] + (offset + k * stride if entry_offsets == NULL else entry_offsets[k]),
                -<int32_t> kept[u * marks + mark], size)
        k += 1


cdef bint follows(const int64_t* offsets, int64_t count, int size) noexcept nogil:
    """Whether items of this size lie side by side."""
    cdef int64_t k
    for k in range(1, count):
        if offsets[k] != offsets[k - 1] + size:
            return False
    return True


def empty_entries(
    cnp.ndarray out not None, cnp.ndarray units not None, cnp.ndarray unit_offsets not None, int64_t total,
    int32_t zeros, uint64_t seed, uint64_t stream, int64_t first_entry, int64_t count, int64_t offset, int64_t stride,
    cnp.ndarray entries=None, cnp.ndarray entry_offsets=None
):
    """Make 0 what is empty among some units and entries of an array.

    Parameters
    ----------
    out : ndarray
        Items of 1, 2, 4 or 8 bytes, any strides.
    units, unit_offsets : ndarray of int64
        The units' numbers, and their offsets in bytes.
    total, zeros : int
        How many entries a unit has in all, and how many of them are empty.
    first_entry, count, offset, stride : int
        The entries: neighbours from the first on, the offset of that one, and bytes from one to the next ...
    entries, entry_offsets : ndarray of int32, int64, or None
        ... or, where they are given, so many numbers and offsets.
    """
    cdef const int64_t* unit = <const int64_t*> cnp.PyArray_DATA(units)
    cdef const int64_t* unit_at = <const int64_t*> cnp.PyArray_DATA(unit_offsets)
    cdef const int32_t* entry = NULL
    cdef const int64_t* entry_at = NULL
    cdef char* target = <char*> cnp.PyArray_DATA(out)
    cdef int size = cnp.PyArray_ITEMSIZE(out)
    cdef int64_t unit_count = cnp.PyArray_DIM(units, 0)
    cdef bint is_few = total <= FEW_ENTRIES
    cdef bint is_whole = is_few or (4 * count >= total and total <= MOST_MARKS)
    cdef int64_t marks = total if is_whole else count, words, wide, tall, first, u, tile, some
    cdef uint64_t groups
    cdef bint is_drawn
    cdef grid_t grid = grid_of(total)
    cdef philox_state state
    cdef uint32_t* drawn
    cdef uint32_t* own
    cdef int32_t* turns
    cdef char* memory
    cdef char* grids
    if entries is not None:
        entry, entry_at = <const int32_t*> cnp.PyArray_DATA(entries), <const int64_t*> cnp.PyArray_DATA(entry_offsets)
    words = total if is_few else TURNS * (<int64_t> grid.rows + grid.columns)
    groups = (words + 31) // 32
    # Rows beyond the grid, up to 16, are read and come to nothing.
    wide = 0 if is_few or not is_whole else (<int64_t> grid.rows + 15) * doubled(grid.columns)
    tall = 0 if is_few or not is_whole else (<int64_t> grid.columns + 15) * doubled(grid.rows)
    tile = max(<int64_t> 1, min(<int64_t> TILE_UNITS, MOST_MARKS // marks))
    drawn = <uint32_t*> malloc((tile * groups * 32 + BATCH) * sizeof(uint32_t))
    turns = <int32_t*> malloc(words * sizeof(int32_t))
    memory = <char*> malloc(tile * marks + 16 + wide + 2 * tall)
    if drawn == NULL or turns == NULL or memory == NULL:
        free(drawn)
        free(turns)
        free(memory)
        raise MemoryError("no memory for the permutations of a sparse fill")
    grids = memory + tile * marks + 16
    with nogil:
        philox_start(&state, seed, stream, <uint32_t> 1 << 31)
        if wide > 0:
            memset(grids, 0, wide + 2 * tall)
            mark_grid(grids, &grid, zeros)
        first = 0
        while first < unit_count:
            some = min(tile, unit_count - first)
            is_drawn = unit[first + some - 1] - unit[first] == some - 1 and follows(unit + first, some, 1)
            if is_drawn:
                auxiliary_words(&state, <uint64_t> unit[first] * groups, some * groups * 32, drawn)
            for u in range(some):
                own = drawn + (u * groups * 32 if is_drawn else 0)
                if not is_drawn:
                    auxiliary_words(&state, <uint64_t> unit[first + u] * groups, words, own)
                if is_few:
                    keep_ranks(memory + u * marks, own, <int> total, zeros)
                    continue
                turns_of(own, &grid, turns)
                if is_whole:
                    keep_grid(memory + u * marks, grids, grids + tall, grids + tall + wide, &grid, turns)
                else:
                    keep_entries(memory + u * marks, entry, first_entry, count, &grid, turns, zeros)
            empty_tile(
                target, unit_at + first, <int> some, entry if is_whole else NULL, entry_at, offset, stride, count,
                memory + (first_entry if is_whole and entry == NULL else 0), marks, size)
            first += some
    free(drawn)
    free(turns)
    free(memory)


cdef grid_t grid_of(int64_t total) noexcept nogil:
    """The columns are the smallest whole number whose square is not below `total`."""
    cdef grid_t grid
    cdef int64_t columns = <int64_t> sqrt(<double> total)
    while columns * columns < total:
        columns += 1
    while (columns - 1) * (columns - 1) >= total:
        columns -= 1
    grid.columns = <int32_t> columns
    grid.rows = <int32_t> ((total + columns - 1) // columns)
    grid.last = <int32_t> (total - <int64_t> (grid.rows - 1) * columns)
    return grid
