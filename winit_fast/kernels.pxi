# The engine's inner loops: one source, compiled once per ISA (_kernels_*.pyx include it).
#
# (a) A batch is eight groups of 32 consecutive words, anywhere in the stream: Philox fills two rows of words, a transform
#     turns them into values, a store rounds them to the caller's type.
# (b) A long contiguous run of memory takes its batches directly. Everything else (short rows, ends of runs, strides,
#     lists of rows) queues groups or pieces of them, each with the place it goes to; a full queue is one batch. So rows of 64
#     values cost no more words than one run of the same length.
# (c) Where the logical order runs across the memory (a transposed target), tiles are filled in a small buffer and copied
#     out along the memory.
# (d) Where rows are streams of their own (keys), each group of the queue has a stream, and so has each long run.
# (e) Several threads take the units of plans from a counter: crew.pxi, which is included at the end.
# (f) Orthogonal matrices, sparse ones and fingerprints have kernels of their own, in the files included at the end.

include "transforms.pxi"

import atexit

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from winit_fast._plan cimport (
    AS_IT_IS, BFLOAT16, CONSTANT32, CONSTANT64, DISK32, DISK64, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16, NORMAL32, NORMAL64,
    TRUNCATED64, TRUNCATED_CENTRE32, TRUNCATED_DISK32, TRUNCATED_DISK64, TRUNCATED_FAR32, TRUNCATED_NEAR32, UNIFORM32,
    UNIFORM64, WORDS32, Plan, axis_t, plan_t, store_name, transform_name)

cdef extern from "philox.h" nogil:
    ctypedef struct philox_stream:
        pass
    ctypedef struct philox_state:
        uint64_t seed, stream
        uint32_t high
        philox_stream common
    void philox_begin_stream(philox_stream* begun, uint64_t seed, uint64_t stream, uint32_t high)
    void philox_start(philox_state* state, uint64_t seed, uint64_t stream, uint32_t high)
    void philox_batch(const philox_state* state, const uint32_t* first_block, uint32_t* even, uint32_t* odd)
    void philox_batch_of_streams(
        const philox_state* state, const philox_stream* streams, const uint32_t* first_block, uint32_t* even, uint32_t* odd)

cdef extern from "batch.h" nogil:
    ctypedef struct batch_words:
        uint32_t even[GROUPS * ROW]
        uint32_t odd[GROUPS * ROW]
    ctypedef union batch_values:
        float singles[BATCH]
        double doubles[GROUPS * ROW]
    ctypedef struct batch_lines:
        char begun[64]
        batch_values values

cdef extern from "stores.h" nogil:
    enum: STORE_LINE
    void store_line_past_cache(char* target, const char* source)
    void stores_past_cache_done()

cdef extern from "prefetch.h" nogil:
    void prefetch_for_write(const void* address)

cdef extern from "transpose.h" nogil:
    int transpose_block_items(int item_size)
    void transpose_block(char* target, int64_t target_stride, const char* source, int64_t source_stride, int item_size)

cdef enum:
    CACHE_LINE = 64
    COLUMNS_AHEAD = 8

cdef extern from "floating_point.h" nogil:
    ctypedef struct floating_point_state:
        pass
    floating_point_state floating_point_default()
    void floating_point_restore(floating_point_state found)

ctypedef void (*transform_t)(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil
ctypedef void (*store_t)(const float* values, char** out) noexcept nogil

cdef struct queue_t:
    philox_state state
    transform_t transform
    store_t store              # NULL where values are stored as they are
    bint draws
    bint is_keyed
    bint is_past_cache
    uint64_t stream            # of the row in hand, where each has its own
    philox_stream streams[GROUPS]
    const double* constants
    int item_size
    int group_shift            # log2 of the values in a group
    int64_t stride             # bytes between neighbours of a piece in memory
    int filled
    uint32_t first_block[GROUPS]   # of each group, low half
    char* target[GROUPS]
    int first[GROUPS]          # the piece of the group: from this value on ...
    int count[GROUPS]          # ... so many
    bint is_piece[GROUPS]      # not all of it, or not side by side and aligned; else it is made where it goes
    int pieces                 # how many groups are such


cdef transform_t transform_of(transform_name name) noexcept nogil:
    if name == WORDS32:
        return words32
    elif name == CONSTANT32:
        return constant32
    elif name == UNIFORM32:
        return uniform32
    elif name == NORMAL32:
        return normal32
    elif name == TRUNCATED_CENTRE32:
        return truncated_centre32
    elif name == TRUNCATED_NEAR32:
        return truncated_near32
    elif name == TRUNCATED_FAR32:
        return truncated_far32
    elif name == DISK32:
        return disk32
    elif name == TRUNCATED_DISK32:
        return truncated_disk32
    elif name == CONSTANT64:
        return constant64
    elif name == UNIFORM64:
        return uniform64
    elif name == NORMAL64:
        return normal64
    elif name == DISK64:
        return disk64
    elif name == TRUNCATED_DISK64:
        return truncated_disk64
    return truncated64


cdef store_t store_of(store_name name) noexcept nogil:
    if name == BFLOAT16:
        return store_bfloat16
    elif name == FLOAT16:
        return store_float16
    elif name == FLOAT8_E5M2:
        return store_float8_e5m2
    elif name == FLOAT8_E4M3FN:
        return store_float8_e4m3fn
    return NULL


cdef void queue_start(queue_t* queue, const plan_t* plan, int64_t stride) noexcept nogil:
    queue.transform = transform_of(plan.transform)
    queue.store = store_of(plan.store)
    queue.draws = plan.transform != CONSTANT32 and plan.transform != CONSTANT64
    queue.is_keyed = plan.is_keyed
    queue.is_past_cache = plan.is_past_cache
    queue.constants = &plan.constants[0]
    queue.item_size = plan.item_size
    queue.group_shift = plan.group_shift
    queue.stride = stride
    queue.filled = 0
    queue.pieces = 0
    memset(queue.is_piece, 0, sizeof(queue.is_piece))
    philox_start(&queue.state, plan.seed, plan.stream, <uint32_t> (plan.first_group >> 29))


cdef inline void copy_items(
    char* target, int64_t stride, const char* source, int64_t step, int64_t count, int size
) noexcept nogil:
    """target[i] = source[i] for items of `size` bytes, `stride` and `step` bytes apart, of any alignment."""
    if size == 4:
        copy_items_of(target, stride, source, step, count, 4)
    elif size == 2:
        copy_items_of(target, stride, source, step, count, 2)
    elif size == 8:
        copy_items_of(target, stride, source, step, count, 8)
    else:
        copy_items_of(target, stride, source, step, count, 1)


cdef inline void copy_items_of(
    char* target, int64_t stride, const char* source, int64_t step, int64_t count, const int size
) noexcept nogil:
    """Four at a time: an address for each took as long as the copy."""
    cdef int64_t i
    for i in range(count >> 2):
        memcpy(target, source, size)
        memcpy(target + stride, source + step, size)
        memcpy(target + 2 * stride, source + 2 * step, size)
        memcpy(target + 3 * stride, source + 3 * step, size)
        target += 4 * stride
        source += 4 * step
    for i in range(count & 3):
        memcpy(target + i * stride, source + i * step, size)


cdef inline void copy_bytes(char* target, const char* source, int64_t count) noexcept nogil:
    """As memcpy, for so few bytes that its call shows."""
    cdef int64_t i
    if count >= 16:
        for i in range(0, count - 16, 16):
            memcpy(target + i, source + i, 16)
        memcpy(target + count - 16, source + count - 16, 16)
    else:
        for i in range(count):
            target[i] = source[i]


cdef inline void transform_batch(const queue_t* queue, const batch_words* words, char** out) noexcept nogil:
    """The values of eight groups, those of each to where `out` says."""
    cdef batch_values values
    cdef char* singles[GROUPS]
    cdef int i
    if queue.store == NULL:
        queue.transform(words.even, words.odd, queue.constants, out)
    else:
        for i in range(GROUPS):
            singles[i] = <char*> &values.singles[2 * ROW * i]
        queue.transform(words.even, words.odd, queue.constants, singles)
        queue.store(values.singles, out)


cdef void queue_flush(queue_t* queue) noexcept nogil:
    cdef batch_words words
    cdef batch_values scratch  # for groups of which only a piece is wanted, or not side by side
    cdef char* mixed[GROUPS]
    cdef char** out = queue.target
    cdef bint is_direct, is_past_cache = False
    cdef int i
    if queue.filled == 0:
        return
    if queue.pieces == 0 and queue.filled == GROUPS:
        is_past_cache = queue.is_past_cache and are_whole_lines(queue)
        if is_past_cache:
            out = mixed
            for i in range(GROUPS):
                out[i] = <char*> &scratch.doubles[ROW * i]
    else:
        out = mixed
        for i in range(GROUPS):
            if i >= queue.filled:
                queue.first_block[i] = queue.first_block[0]
                if queue.is_keyed:
                    queue.streams[i] = queue.streams[0]
            is_direct = i < queue.filled and not queue.is_piece[i]
            out[i] = queue.target[i] if is_direct else <char*> &scratch.doubles[ROW * i]
    if queue.draws and queue.is_keyed:
        philox_batch_of_streams(&queue.state, queue.streams, queue.first_block, words.even, words.odd)
    elif queue.draws:
        philox_batch(&queue.state, queue.first_block, words.even, words.odd)
    transform_batch(queue, &words, out)
    if is_past_cache:
        copy_past_cache(queue, out)
    elif queue.pieces:
        copy_pieces(queue, out)
        memset(queue.is_piece, 0, sizeof(queue.is_piece))
        queue.pieces = 0
    queue.filled = 0


cdef inline bint are_whole_lines(const queue_t* queue) noexcept nogil:
    """Whether each group of the batch begins and ends with a line."""
    cdef uintptr_t places = <uintptr_t> (queue.item_size << queue.group_shift)
    cdef int i
    for i in range(GROUPS):
        places |= <uintptr_t> queue.target[i]
    return places % STORE_LINE == 0


cdef inline void copy_past_cache(const queue_t* queue, char** made) noexcept nogil:
    cdef int i, line
    for i in range(GROUPS):
        for line in range((queue.item_size << queue.group_shift) // STORE_LINE):
            store_line_past_cache(queue.target[i] + line * STORE_LINE, made[i] + line * STORE_LINE)


cdef void copy_pieces(const queue_t* queue, char** made) noexcept nogil:
    """From where groups were made to where the pieces of them that are wanted go."""
    cdef const char* source
    cdef int i
    for i in range(queue.filled):
        if not queue.is_piece[i]:
            continue
        source = made[i] + queue.first[i] * queue.item_size
        if queue.stride == queue.item_size:
            copy_bytes(queue.target[i], source, queue.count[i] * queue.item_size)
        else:
            copy_items(queue.target[i], queue.stride, source, queue.item_size, queue.count[i], queue.item_size)


cdef inline void queue_put(
    queue_t* queue, uint64_t group, int first, int count, char* target
) noexcept nogil:
    cdef int i
    queue_reach(queue, group)
    i = queue.filled
    queue.first_block[i] = <uint32_t> (group << 3)
    if queue.is_keyed:
        philox_begin_stream(&queue.streams[i], queue.state.seed, queue.stream, queue.state.high)
    queue.first[i] = first
    queue.count[i] = count
    queue.target[i] = target
    queue.is_piece[i] = True
    queue.pieces += 1
    queue.filled = i + 1
    if queue.filled == GROUPS:
        queue_flush(queue)


cdef inline void queue_group(queue_t* queue, uint64_t group, char* target) noexcept nogil:
    """As `queue_put`, for a whole group that is made where it goes."""
    cdef int i
    queue_reach(queue, group)
    i = queue.filled
    queue.first_block[i] = <uint32_t> (group << 3)
    if queue.is_keyed:
        philox_begin_stream(&queue.streams[i], queue.state.seed, queue.stream, queue.state.high)
    queue.target[i] = target
    queue.filled = i + 1
    if queue.filled == GROUPS:
        queue_flush(queue)


cdef inline void queue_reach(queue_t* queue, uint64_t group) noexcept nogil:
    """Make the group one of the batch to come, whose blocks all share the high half of their number.

    2^32 blocks are 2^34 words: it changes once in a while, but in a list of rows from both sides of such a boundary.
    """
    cdef uint32_t high = <uint32_t> (group >> 29)
    if queue.state.high != high:
        queue_flush(queue)
        philox_start(&queue.state, queue.state.seed, queue.state.stream, high)


cdef char* fill_batches(queue_t* queue, uint64_t group, int64_t batches, char* target) noexcept nogil:
    """Whole batches into contiguous, aligned memory; the caller has seen to it that they share their high half."""
    cdef batch_words words
    cdef uint32_t first_block[GROUPS]
    cdef char* out[GROUPS]
    cdef int64_t batch
    cdef int i
    queue_reach(queue, group)
    for batch in range(batches):
        for i in range(GROUPS):
            first_block[i] = <uint32_t> (group << 3) + 8 * i
            out[i] = target + (i * queue.item_size << queue.group_shift)
        if queue.draws:
            philox_batch(&queue.state, first_block, words.even, words.odd)
        transform_batch(queue, &words, out)
        group += GROUPS
        target += GROUPS * queue.item_size << queue.group_shift
    return target


cdef struct lines_t:
    batch_lines made     # a batch, behind the line that it ends
    char* out[GROUPS]    # where its groups are made
    char* source         # these two as they go to memory, from the beginning of the line on
    char* target         # where that line stands
    int64_t early        # bytes of it before the batch
    bint is_begun        # those bytes are ours, of the batch before


cdef inline void lines_start(lines_t* lines, const queue_t* queue, char* target) noexcept nogil:
    """Batches go to contiguous memory past the cache, in whole lines: the last line of a batch waits for the next batch."""
    cdef char* values = <char*> &lines.made.values
    cdef int i
    for i in range(GROUPS):
        lines.out[i] = values + (i * queue.item_size << queue.group_shift)
    lines.early = <int64_t> (<uintptr_t> target % STORE_LINE)
    lines.source = <char*> &lines.made + (values - <char*> &lines.made) - lines.early
    lines.target = target - lines.early
    lines.is_begun = False


cdef inline void lines_put(lines_t* lines, int64_t size) noexcept nogil:
    """Write the whole batch that was made, of so many bytes, but for the line that it begins."""
    cdef int64_t place = 0
    if lines.early and not lines.is_begun:
        memcpy(lines.target + lines.early, lines.source + lines.early, STORE_LINE - lines.early)
        place = STORE_LINE
    while place < size:
        store_line_past_cache(lines.target + place, lines.source + place)
        place += STORE_LINE
    memcpy(lines.source, lines.source + size, lines.early)
    lines.target += size
    lines.is_begun = True


cdef inline char* lines_end(lines_t* lines, int64_t size) noexcept nogil:
    """Write the line that waits, and so many bytes of the batch that was made; return where they end."""
    cdef int64_t skipped = 0 if lines.is_begun else lines.early
    memcpy(lines.target + skipped, lines.source + skipped, lines.early + size - skipped)
    return lines.target + lines.early + size


cdef char* fill_batches_past_cache(queue_t* queue, uint64_t group, int64_t batches, char* target) noexcept nogil:
    """As `fill_batches`, past the cache."""
    cdef batch_words words
    cdef lines_t lines
    cdef uint32_t first_block[GROUPS]
    cdef int64_t batch
    cdef int i
    queue_reach(queue, group)
    lines_start(&lines, queue, target)
    for batch in range(batches):
        for i in range(GROUPS):
            first_block[i] = <uint32_t> (group << 3) + 8 * i
        if queue.draws:
            philox_batch(&queue.state, first_block, words.even, words.odd)
        if queue.draws or batch == 0:
            transform_batch(queue, &words, lines.out)
        lines_put(&lines, GROUPS * queue.item_size << queue.group_shift)
        group += GROUPS
    return lines_end(&lines, 0)


cdef void fill_run(queue_t* queue, uint64_t group, int place, int64_t count, char* target, bint is_direct) noexcept nogil:
    """`count` neighbours of the global tensor, from value `place` of `group` on, to `target` and on by queue.stride."""
    cdef int64_t piece, batches, group_values = <int64_t> 1 << queue.group_shift
    while count > 0:
        batches = count >> queue.group_shift
        if place == 0 and is_direct and batches >= GROUPS:
            # Up to the next multiple of 2^32 blocks, which needs a fresh start of Philox; a batch across it is queued.
            batches = min(batches, <int64_t> ((<uint64_t> 1 << 29) - (group & ((<uint64_t> 1 << 29) - 1)))) // GROUPS
            if batches > 0:
                if queue.is_keyed:  # such rows are too short for another high half
                    philox_begin_stream(&queue.state.common, queue.state.seed, queue.stream, queue.state.high)
                if queue.is_past_cache:
                    target = fill_batches_past_cache(queue, group, batches, target)
                else:
                    target = fill_batches(queue, group, batches, target)
                group += <uint64_t> batches * GROUPS
                count -= (batches * GROUPS) << queue.group_shift
                continue
        if place == 0 and is_direct:
            while count >= group_values:
                queue_group(queue, group, target)
                target += queue.item_size << queue.group_shift
                count -= group_values
                group += 1
            if count == 0:
                return
        piece = min(count, group_values - place)
        queue_put(queue, group, place, <int> piece, target)
        target += piece * queue.stride
        count -= piece
        place = 0
        group += 1


cdef uint64_t position(const plan_t* plan, const axis_t* axis, int which, int64_t index) noexcept nogil:
    """How many elements of the global tensor lie before `index` of this axis."""
    if plan.row_list_axis == which:
        return 0 if plan.is_keyed else <uint64_t> plan.row_list[index] * axis.step
    return <uint64_t> index * axis.step


cdef void fill_tile(
    queue_t* queue, const plan_t* plan, uint64_t before, char* data, int64_t row, int64_t column, char* buffer
) noexcept nogil:
    """One tile of the panel that starts at `data`, `before` elements after the plan's first."""
    cdef int64_t rows = min(plan.tile_rows, plan.rows.extent - row)
    cdef int64_t columns = min(plan.tile_columns, plan.columns.extent - column)
    cdef int64_t buffer_stride = across_stride(plan)
    cdef bint is_direct = plan.is_across or (plan.is_aligned and plan.columns.stride == plan.item_size)
    cdef int64_t ahead = rows_ahead(plan, columns)
    cdef uint64_t places = (<uint64_t> 1 << plan.group_shift) - 1  # of a group
    cdef bint is_dense = (  # rows that follow each other in the list do so in the tensor and in memory
        plan.row_list_axis == plan.outer_rank and not plan.is_keyed and not plan.is_across
        and columns == plan.columns.extent and plan.rows.step == <uint64_t> columns
        and plan.rows.stride == columns * plan.columns.stride)
    cdef uint64_t start
    cdef char* target
    cdef int64_t i, run
    before += <uint64_t> column + <uint64_t> plan.first_place
    if is_direct and not plan.is_across and columns < GROUPS << plan.group_shift and not (
            (before | plan.rows.step | <uint64_t> columns) & places):
        fill_whole_rows(
            queue, plan, before, data + row * plan.rows.stride + column * plan.columns.stride, row, rows, columns)
        return
    i = 0
    while i < rows:
        run = 1
        if is_dense:
            while i + run < rows and plan.row_list[row + i + run] == plan.row_list[row + i] + run:
                run += 1
        start = before + position(plan, &plan.rows, plan.outer_rank, row + i)
        if plan.is_keyed and plan.row_list_axis == plan.outer_rank:
            queue.stream = <uint64_t> plan.row_list[row + i]
        if plan.is_across:
            target = buffer + i * buffer_stride
        else:
            target = data + (row + i) * plan.rows.stride + column * plan.columns.stride
        if ahead and i + ahead < rows:
            prefetch_row(target + ahead * plan.rows.stride, columns * plan.item_size)
        fill_run(
            queue, plan.first_group + (start >> plan.group_shift),
            <int> (start & places), run * columns, target, is_direct)
        i += run
    if plan.is_across:
        queue_flush(queue)
        copy_across(
            data + row * plan.rows.stride + column * plan.columns.stride, &plan.rows, &plan.columns,
            buffer, buffer_stride, rows, columns, plan.item_size)


cdef void fill_whole_rows(
    queue_t* queue, const plan_t* plan, uint64_t before, char* target, int64_t row, int64_t rows, int64_t columns
) noexcept nogil:
    """As fill_run for each row, where all are whole groups: nothing is asked that is the same for all."""
    cdef int64_t ahead = rows_ahead(plan, columns)
    cdef int64_t group_bytes = plan.item_size << plan.group_shift, stride = plan.rows.stride, i, k
    cdef int64_t groups = columns >> plan.group_shift
    cdef int filled = queue.filled
    cdef uint64_t group
    cdef char* place
    if queue.is_past_cache and stride == columns * plan.item_size:
        fill_whole_rows_past_cache(queue, plan, before, target, row, rows, groups)
        return
    if queue.is_past_cache and (<uintptr_t> target | <uintptr_t> (stride | group_bytes)) % STORE_LINE == 0:
        ahead = 0  # as whole lines are not read
    for i in range(rows):
        group = first_group_of_row(queue, plan, before, row + i)
        place = target
        target += stride
        if ahead and i + ahead < rows:
            prefetch_row(place + ahead * stride, columns * plan.item_size)
        for k in range(groups):
            if queue.state.high != <uint32_t> (group >> 29):
                queue.filled = filled
                queue_reach(queue, group)
                filled = queue.filled
            queue.first_block[filled] = <uint32_t> (group << 3)
            queue.target[filled] = place
            if queue.is_keyed:
                philox_begin_stream(&queue.streams[filled], queue.state.seed, queue.stream, queue.state.high)
            filled += 1
            group += 1
            place += group_bytes
            if filled == GROUPS:
                queue.filled = filled
                queue_flush(queue)
                filled = 0
    queue.filled = filled


cdef inline uint64_t first_group_of_row(
    queue_t* queue, const plan_t* plan, uint64_t before, int64_t row
) noexcept nogil:
    """Where the row begins in its stream; if rows have streams of their own, that is the queue's from now on."""
    if plan.row_list_axis != plan.outer_rank:
        before += <uint64_t> row * plan.rows.step
    elif plan.is_keyed:
        queue.stream = <uint64_t> plan.row_list[row]
    else:
        before += <uint64_t> plan.row_list[row] * plan.rows.step
    return plan.first_group + (before >> plan.group_shift)


cdef void fill_whole_rows_past_cache(
    queue_t* queue, const plan_t* plan, uint64_t before, char* target, int64_t row, int64_t rows, int64_t groups
) noexcept nogil:
    """As `fill_whole_rows`, past the cache, where rows of so many groups follow each other in memory."""
    cdef batch_words words
    cdef lines_t lines
    cdef int64_t group_bytes = plan.item_size << plan.group_shift, last = row + rows
    cdef uint64_t group = 0, end = 0
    cdef int i, filled = 0
    queue_flush(queue)
    lines_start(&lines, queue, target)
    while True:
        if group == end and row < last:
            group = first_group_of_row(queue, plan, before, row)
            end = group + groups
            row += 1
        if filled == GROUPS or filled and (group == end or queue.state.high != <uint32_t> (group >> 29)):
            for i in range(filled, GROUPS):
                queue.first_block[i] = queue.first_block[0]
                queue.streams[i] = queue.streams[0]
            if queue.draws and queue.is_keyed:
                philox_batch_of_streams(&queue.state, queue.streams, queue.first_block, words.even, words.odd)
            elif queue.draws:
                philox_batch(&queue.state, queue.first_block, words.even, words.odd)
            transform_batch(queue, &words, lines.out)
            if filled == GROUPS:
                lines_put(&lines, GROUPS * group_bytes)
            else:
                lines_start(&lines, queue, lines_end(&lines, filled * group_bytes))
            filled = 0
        if group == end:
            break
        queue_reach(queue, group)
        queue.first_block[filled] = <uint32_t> (group << 3)
        if queue.is_keyed:
            philox_begin_stream(&queue.streams[filled], queue.state.seed, queue.stream, queue.state.high)
        filled += 1
        group += 1
    lines_end(&lines, 0)


cdef inline int64_t rows_ahead(const plan_t* plan, int64_t columns) noexcept nogil:
    """How many rows to ask memory for beforehand, 0 for none: of a batch, where short rows lie apart.

    They are no stream that the CPU would fetch by itself, and a batch takes as long as memory does.
    """
    cdef int64_t batch = <int64_t> GROUPS << plan.group_shift
    if (plan.is_across or plan.columns.stride != plan.item_size or columns >= batch
            or plan.rows.stride == plan.columns.extent * plan.item_size):
        return 0
    return (batch - 1) // columns + 1


cdef inline void prefetch_row(const char* target, int64_t bytes) noexcept nogil:
    cdef int64_t line
    for line in range((bytes + CACHE_LINE - 1) // CACHE_LINE):
        prefetch_for_write(target + line * CACHE_LINE)


cdef void copy_across(
    char* target, const axis_t* row_axis, const axis_t* column_axis, const char* buffer, int64_t buffer_stride,
    int64_t rows, int64_t columns, int size
) noexcept nogil:
    """From the rows of the buffer to the columns of the target, which lie along its memory."""
    cdef int64_t block = transpose_block_items(size) if row_axis.stride == size else 1
    cdef int64_t block_rows = rows - rows % block, block_columns = columns - columns % block
    cdef int64_t row, column, line
    for column in range(0, columns):
        # Columns lie far apart, each on a page of its own: without a word ahead every one is a miss.
        if column + COLUMNS_AHEAD < columns:
            for line in range(rows * size // CACHE_LINE):
                prefetch_for_write(target + (column + COLUMNS_AHEAD) * column_axis.stride + line * CACHE_LINE)
        if block > 1 and column < block_columns:
            if column % block == 0:
                for row in range(block_rows // block):
                    transpose_block(
                        target + row * block * row_axis.stride + column * column_axis.stride, column_axis.stride,
                        buffer + row * block * buffer_stride + column * size, buffer_stride, size)
            if block_rows < rows:
                copy_items(
                    target + block_rows * row_axis.stride + column * column_axis.stride, row_axis.stride,
                    buffer + block_rows * buffer_stride + column * size, buffer_stride, rows - block_rows, size)
        else:
            copy_items(
                target + column * column_axis.stride, row_axis.stride, buffer + column * size, buffer_stride, rows, size)


cdef inline int64_t across_stride(const plan_t* plan) noexcept nogil:
    """Bytes from row to row of the buffer: a cache line more than a row, or its columns would share a few cache sets."""
    return plan.tile_columns * plan.item_size + CACHE_LINE


cdef inline int64_t buffer_bytes(const plan_t* plan) noexcept nogil:
    return plan.tile_rows * across_stride(plan) if plan.is_across else 0


cdef void fill_tiles(const plan_t* plan, int64_t first, int64_t last, char* buffer) noexcept nogil:
    cdef queue_t queue
    cdef int64_t unit, rest, index
    cdef uint64_t before
    cdef char* data
    cdef int k
    queue_start(&queue, plan, plan.item_size if plan.is_across else plan.columns.stride)
    for unit in range(first, last):
        rest = unit // (plan.row_tiles * plan.column_tiles)
        before = 0
        data = plan.data
        for k in range(plan.outer_rank - 1, -1, -1):
            index = rest % plan.outer[k].extent
            rest = rest // plan.outer[k].extent
            before += position(plan, &plan.outer[k], k, index)
            if plan.is_keyed and plan.row_list_axis == k:
                queue.stream = <uint64_t> plan.row_list[index]
            data += index * plan.outer[k].stride
        rest = unit % (plan.row_tiles * plan.column_tiles)
        fill_tile(
            &queue, plan, before, data, rest // plan.column_tiles * plan.tile_rows,
            rest % plan.column_tiles * plan.tile_columns, buffer)
    queue_flush(&queue)
    if plan.is_past_cache:
        stores_past_cache_done()


def fill_units(Plan plan not None, int64_t first, int64_t last):
    """Do the units of work from `first` up to, not including, `last`, without the GIL."""
    cdef floating_point_state found
    cdef char* buffer = NULL
    if not 0 <= first <= last <= plan.c.units:
        raise ValueError(f"first and last must be within [0, {plan.c.units}], got {first} and {last}")
    if plan.c.is_across:
        buffer = <char*> malloc(buffer_bytes(&plan.c))
        if buffer == NULL:
            raise MemoryError("no memory for the tile buffer of fill")
    with nogil:
        found = floating_point_default()
        fill_tiles(&plan.c, first, last, buffer)
        floating_point_restore(found)
    free(buffer)


include "crew.pxi"
include "orthogonal.pxi"
include "sparse.pxi"
include "fingerprint.pxi"
