# Products of Householder reflections: STREAM.md, section 8. The order of every sum is that of the page; how blocks are
# shared among threads is orthogonal.py's.
#
# (a) A panel is 64 reflectors side by side: BLOCK numbers for each position, position after position, padded with zeros to
#     a whole number of blocks both ways. Vectors that are reflected lie likewise, 64 to a block: one number of each vector
#     at each position (its lanes). So all of the work is blocks of 64 x 64 that lie in one piece (include/matrix.h).
# (b) Near-square matrices: `make_reflectors` turns a panel of normals into reflectors and the matrix S of the panel,
#     `reflect` applies a panel to a block of vectors.
# (c) Tall and wide ones: `add_products` sums S over chunks of positions, `add_heads` completes it, `solve_block` makes a
#     block row of N, `combine` makes values.
# (d) `store_block` scales values, rounds them to the caller's type and puts them where offsets say.
# (e) Blocks that a function works in lie on the heap: where the stack of a thread is small (musl's has 128 KiB) two of
#     them would not fit.

from libc.string cimport memset

cimport numpy as cnp

cdef extern from "matrix.h" nogil:
    void multiply_add_float(
        float* c, const float* a, Py_ssize_t a_row, Py_ssize_t a_term, const float* b, int rows, int columns, int terms)
    void multiply_add_double(
        double* c, const double* a, Py_ssize_t a_row, Py_ssize_t a_term, const double* b, int rows, int columns, int terms)
    void subtract_row_float(float* target, float factor, const float* source)
    void subtract_row_double(double* target, double factor, const double* source)

from winit_fast._plan cimport MATRIX_BLOCK as BLOCK

cdef enum:
    SQUARE = BLOCK * BLOCK
    WORKSPACE = 2 * SQUARE * 8  # bytes: two blocks of float64

ctypedef fused real:
    float
    double


cdef inline void multiply_add(
    real* c, const real* a, Py_ssize_t a_row, Py_ssize_t a_term, const real* b, int rows, int columns, int terms
) noexcept nogil:
    if real is float:
        multiply_add_float(c, a, a_row, a_term, b, rows, columns, terms)
    else:
        multiply_add_double(c, a, a_row, a_term, b, rows, columns, terms)


cdef inline void subtract_row(real* target, real factor, const real* source) noexcept nogil:
    if real is float:
        subtract_row_float(target, factor, source)
    else:
        subtract_row_double(target, factor, source)


cdef char* new_workspace(char** memory) except NULL:
    """Room for two blocks, on a cache line of its own; `memory` is what to free."""
    memory[0] = <char*> malloc(WORKSPACE + CACHE_LINE)
    if memory[0] == NULL:
        raise MemoryError("no memory for two blocks of an orthogonal matrix")
    return memory[0] + (CACHE_LINE - <uintptr_t> memory[0] % CACHE_LINE) % CACHE_LINE


cdef inline int64_t blocks_of(int64_t count) noexcept nogil:
    return (count + BLOCK - 1) // BLOCK


cdef inline double head_of(double first, double squares) noexcept nogil:
    """The first entry of a reflector, whose vector begins with `first` and goes on with entries of these squares."""
    cdef double norm = sqrt(squares + first * first)
    return first + norm if first >= 0.0 else first - norm


cdef void sum_squares(double* squares, const real* v, int64_t length) noexcept nogil:
    cdef int64_t i
    cdef int k
    for i in range(length):
        for k in range(BLOCK):
            squares[k] = squares[k] + <double> v[i * BLOCK + k] * <double> v[i * BLOCK + k]


cdef void sum_products(
    double* products, const real* left, const real* right, int64_t length, int row, int rows, int columns, real* partial
) noexcept nogil:
    """products[j][k] += left[0][j] right[0][k] + left[1][j] right[1][k] + ..., for rows j from `row` on."""
    cdef int64_t block, start
    cdef int j
    for block in range(blocks_of(length)):
        start = block * BLOCK
        memset(partial, 0, SQUARE * sizeof(real))
        multiply_add(
            partial, left + start * BLOCK + row, 1, BLOCK, right + start * BLOCK, rows, columns,
            <int> min(<int64_t> BLOCK, length - start))
        for j in range(rows * BLOCK):
            products[row * BLOCK + j] = products[row * BLOCK + j] + <double> partial[j]


cdef void panel_of_reflectors(real* v, real* s, int64_t length, int width, char* workspace) noexcept nogil:
    cdef real heads[BLOCK]
    cdef double squares[BLOCK]
    cdef double* products = <double*> workspace
    cdef double head
    cdef int i, j, k
    for i in range(width):
        heads[i] = v[i * BLOCK + i]
        for k in range(i, width):
            v[i * BLOCK + k] = 0
    memset(squares, 0, sizeof(squares))
    memset(products, 0, SQUARE * sizeof(double))
    sum_squares(squares, v, length)
    sum_products(products, v, v, length, 0, width, width, <real*> (products + SQUARE))
    memset(s, 0, SQUARE * sizeof(real))
    for k in range(width):
        v[k * BLOCK + k] = <real> head_of(heads[k], squares[k])
        head = v[k * BLOCK + k]
        for j in range(k):
            s[j * BLOCK + k] = <real> (products[j * BLOCK + k] + <double> v[k * BLOCK + j] * head)
        s[k * BLOCK + k] = <real> ((squares[k] + head * head) * 0.5)


cdef void reflect_vectors(
    real* x, const real* v, const real* s, int64_t length, int width, int lanes, bint is_reversed, real* p
) noexcept nogil:
    """x becomes (H_0 H_1 ... ) x = x - V S^-1 V^T x, for all lanes; reversed, (... H_1 H_0) x with S^-T."""
    cdef int64_t block, start
    cdef int j, k, lane, terms, step
    memset(p, 0, SQUARE * sizeof(real))
    for block in range(blocks_of(length)):
        start = block * BLOCK
        terms = <int> min(<int64_t> BLOCK, length - start)
        multiply_add(p, v + start * BLOCK, 1, BLOCK, x + start * BLOCK, width, lanes, terms)
    for step in range(width):
        k = step if is_reversed else width - 1 - step
        for lane in range(BLOCK):
            p[k * BLOCK + lane] = p[k * BLOCK + lane] / s[k * BLOCK + k]
        if is_reversed:
            for j in range(k + 1, width):
                subtract_row(&p[j * BLOCK], s[k * BLOCK + j], &p[k * BLOCK])
        else:
            for j in range(k):
                subtract_row(&p[j * BLOCK], s[j * BLOCK + k], &p[k * BLOCK])
    for k in range(width * BLOCK):
        p[k] = -p[k]
    for block in range(blocks_of(length)):
        start = block * BLOCK
        terms = <int> min(<int64_t> BLOCK, length - start)
        multiply_add(x + start * BLOCK, v + start * BLOCK, BLOCK, 1, p, terms, lanes, width)


cdef void heads_of_panel(
    double* products, const real* v, const real* heads, int columns, int rows, bint is_diagonal, const double* squares
) noexcept nogil:
    """The part of the heads in S[j, k]: positions `rows` of the top, whose heads these are, and the panel of j."""
    cdef int j, k
    cdef double head
    for k in range(rows):
        head = heads[k]
        for j in range(k if is_diagonal else columns):
            products[j * BLOCK + k] = products[j * BLOCK + k] + <double> v[k * BLOCK + j] * head
        if is_diagonal:
            products[k * BLOCK + k] = (squares[k] + head * head) * 0.5


cdef void solve_square(double* n, const double* s, int width) noexcept nogil:
    """In: t = v^T + S N of the blocks below. Out: the N of this block."""
    cdef int j, k, lane
    for k in range(width - 1, -1, -1):
        for lane in range(BLOCK):
            n[k * BLOCK + lane] = n[k * BLOCK + lane] / s[k * BLOCK + k]
        for j in range(k):
            subtract_row(n + j * BLOCK, s[j * BLOCK + k], n + k * BLOCK)
        for lane in range(BLOCK):
            n[k * BLOCK + lane] = -n[k * BLOCK + lane]


cdef void set_heads(
    real* v, const int64_t* indices, int64_t positions, int64_t first, int width, const real* heads
) noexcept nogil:
    """In a panel of normals: 0 above the heads of its reflectors `first`, `first` + 1, ..., and the heads themselves."""
    cdef int64_t i
    cdef int k, head
    for i in range(positions):
        if indices[i] >= first + width:
            continue
        head = <int> max(indices[i] - first, <int64_t> -1)
        for k in range(max(head, 0), width):
            v[i * BLOCK + k] = 0
        if head >= 0:
            v[i * BLOCK + head] = heads[head]


cdef void take_heads(real* v, real* heads, int width) noexcept nogil:
    """From the positions of the heads of a panel of normals: take the normals there, and leave 0 at and above them."""
    cdef int i, k
    for i in range(width):
        heads[i] = v[i * BLOCK + i]
        for k in range(i, width):
            v[i * BLOCK + k] = 0


cdef void store_values(
    const real* x, const real* scale, int64_t positions, int lanes, bint is_across, store_name name, int item_size,
    char* target, const int64_t* position_offsets, const int64_t* lane_offsets, bint is_joined,
    char* workspace
) noexcept nogil:
    """Lanes side by side in the target, or positions (`is_across`); `is_joined`: without a gap from one to the next."""
    cdef store_t store = store_of(name)
    cdef real* tile = <real*> workspace
    cdef uint16_t* narrow = <uint16_t*> (tile + SQUARE)
    cdef char* out[GROUPS]
    cdef const char* rounded
    cdef const int64_t* line_offsets = lane_offsets if is_across else position_offsets
    cdef const int64_t* item_offsets
    cdef int64_t block, start, line_first
    cdef int lines, items, line, item, count, i
    for block in range(blocks_of(positions)):
        start = block * BLOCK
        count = <int> min(<int64_t> BLOCK, positions - start)
        lines, items = (lanes, count) if is_across else (count, lanes)
        line_first = 0 if is_across else start
        item_offsets = position_offsets + start if is_across else lane_offsets
        if is_across:
            for line in range(lines):
                for item in range(items):
                    tile[line * BLOCK + item] = scale[line] * x[(start + item) * BLOCK + line]
        else:
            for line in range(lines):
                for item in range(BLOCK):
                    tile[line * BLOCK + item] = scale[item] * x[(start + line) * BLOCK + item]
        rounded = <const char*> tile
        if store != NULL:
            for i in range((lines * BLOCK + BATCH - 1) // BATCH):
                for line in range(GROUPS):
                    out[line] = <char*> narrow + (i * BATCH + 2 * ROW * line) * item_size
                store(<const float*> &tile[i * BATCH], out)
            rounded = <const char*> narrow
        for line in range(lines):
            if is_joined:
                memcpy(target + line_offsets[line_first + line] + item_offsets[0],
                       rounded + line * BLOCK * item_size, items * item_size)
            else:
                scatter_items(
                    target + line_offsets[line_first + line], item_offsets, rounded + line * BLOCK * item_size, items,
                    item_size)


cdef inline void scatter_items(
    char* target, const int64_t* offsets, const char* source, int count, int size
) noexcept nogil:
    cdef int i
    if size == 4:
        for i in range(count):
            memcpy(target + offsets[i], source + 4 * i, 4)
    elif size == 2:
        for i in range(count):
            memcpy(target + offsets[i], source + 2 * i, 2)
    elif size == 8:
        for i in range(count):
            memcpy(target + offsets[i], source + 8 * i, 8)
    else:
        for i in range(count):
            target[offsets[i]] = source[i]


# What orthogonal.py calls. Arrays are contiguous, of float32 or float64 (its working type) where nothing else is said;
# shapes are its care. Work is done without the GIL and under the default rounding.

def make_reflectors(cnp.ndarray v not None, cnp.ndarray s not None, int64_t length, int width):
    """Turn a panel of normals, from the position of its first head on, into reflectors; `s` becomes its S."""
    cdef void* numbers = cnp.PyArray_DATA(v)
    cdef void* products = cnp.PyArray_DATA(s)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(v) == 4
    cdef char* memory
    cdef char* workspace = new_workspace(&memory)
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        if is_single:
            panel_of_reflectors(<float*> numbers, <float*> products, length, width, workspace)
        else:
            panel_of_reflectors(<double*> numbers, <double*> products, length, width, workspace)
        floating_point_restore(found)
    free(memory)


def reflect(
    cnp.ndarray x not None, cnp.ndarray v not None, cnp.ndarray s not None, int64_t length, int width, int lanes,
    bint is_reversed=False
):
    """Apply a panel, or its transpose, to a block of vectors, both from the position of the panel's first head on."""
    cdef void* vectors = cnp.PyArray_DATA(x)
    cdef void* numbers = cnp.PyArray_DATA(v)
    cdef void* products = cnp.PyArray_DATA(s)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(v) == 4
    cdef char* memory
    cdef char* workspace = new_workspace(&memory)
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        if is_single:
            reflect_vectors(
                <float*> vectors, <float*> numbers, <float*> products, length, width, lanes, is_reversed,
                <float*> workspace)
        else:
            reflect_vectors(
                <double*> vectors, <double*> numbers, <double*> products, length, width, lanes, is_reversed,
                <double*> workspace)
        floating_point_restore(found)
    free(memory)


def split_heads(cnp.ndarray v not None, cnp.ndarray heads not None, int width):
    """Take the heads out of the top block of a panel of normals."""
    if cnp.PyArray_ITEMSIZE(v) == 4:
        take_heads(<float*> cnp.PyArray_DATA(v), <float*> cnp.PyArray_DATA(heads), width)
    else:
        take_heads(<double*> cnp.PyArray_DATA(v), <double*> cnp.PyArray_DATA(heads), width)


def join_heads(
    cnp.ndarray v not None, cnp.ndarray indices not None, int64_t first, int width, cnp.ndarray heads not None
):
    """Make reflectors of a panel of normals whose positions are `indices` (int64); its first reflector is `first`."""
    cdef int64_t* places = <int64_t*> cnp.PyArray_DATA(indices)
    cdef int64_t positions = cnp.PyArray_DIM(indices, 0)
    if cnp.PyArray_ITEMSIZE(v) == 4:
        set_heads(<float*> cnp.PyArray_DATA(v), places, positions, first, width, <float*> cnp.PyArray_DATA(heads))
    else:
        set_heads(<double*> cnp.PyArray_DATA(v), places, positions, first, width, <double*> cnp.PyArray_DATA(heads))


def add_products(
    cnp.ndarray products not None, cnp.ndarray left not None, cnp.ndarray right not None, int64_t length, int row,
    int rows, int columns
):
    """Add to `products` (float64) those of two panels, for reflectors `row` ... of the left one."""
    cdef double* sums = <double*> cnp.PyArray_DATA(products)
    cdef void* first = cnp.PyArray_DATA(left)
    cdef void* second = cnp.PyArray_DATA(right)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(left) == 4
    cdef char* memory
    cdef char* workspace = new_workspace(&memory)
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        if is_single:
            sum_products(sums, <float*> first, <float*> second, length, row, rows, columns, <float*> workspace)
        else:
            sum_products(sums, <double*> first, <double*> second, length, row, rows, columns, <double*> workspace)
        floating_point_restore(found)
    free(memory)


def add_squares(cnp.ndarray squares not None, cnp.ndarray v not None, int64_t length):
    """Add to `squares` (float64) those of a panel."""
    cdef double* sums = <double*> cnp.PyArray_DATA(squares)
    cdef void* numbers = cnp.PyArray_DATA(v)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(v) == 4
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        if is_single:
            sum_squares(sums, <float*> numbers, length)
        else:
            sum_squares(sums, <double*> numbers, length)
        floating_point_restore(found)


def make_heads(cnp.ndarray heads not None, cnp.ndarray squares not None):
    """From the first entries of all vectors and the squares (float64) of the others: the heads of the reflectors."""
    cdef double* sums = <double*> cnp.PyArray_DATA(squares)
    cdef void* numbers = cnp.PyArray_DATA(heads)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(heads) == 4
    cdef floating_point_state found = floating_point_default()
    cdef int64_t k
    for k in range(cnp.PyArray_DIM(heads, 0)):
        if is_single:
            (<float*> numbers)[k] = <float> head_of((<float*> numbers)[k], sums[k])
        else:
            (<double*> numbers)[k] = head_of((<double*> numbers)[k], sums[k])
    floating_point_restore(found)


def add_heads(
    cnp.ndarray products not None, cnp.ndarray v not None, cnp.ndarray heads not None, int columns, int rows,
    cnp.ndarray squares=None
):
    """Complete a block of S (float64); one on the diagonal is told by its squares."""
    cdef double* sums = <double*> cnp.PyArray_DATA(products)
    cdef bint is_diagonal = squares is not None
    cdef double* own = <double*> cnp.PyArray_DATA(squares) if is_diagonal else NULL
    cdef floating_point_state found = floating_point_default()
    if cnp.PyArray_ITEMSIZE(v) == 4:
        heads_of_panel(
            sums, <float*> cnp.PyArray_DATA(v), <float*> cnp.PyArray_DATA(heads), columns, rows, is_diagonal, own)
    else:
        heads_of_panel(
            sums, <double*> cnp.PyArray_DATA(v), <double*> cnp.PyArray_DATA(heads), columns, rows, is_diagonal, own)
    floating_point_restore(found)


def solve_block(
    cnp.ndarray n not None, cnp.ndarray s not None, cnp.ndarray v not None, int64_t row, int64_t column, int width
):
    """Make block (row, column) of N: all blocks of N (float64) below it are there.

    Parameters
    ----------
    n : ndarray of float64, (blocks, blocks, 64, 64)
    s : ndarray of float64, (blocks, 64, 64)
        The block row `row` of S.
    v : ndarray, (64, 64)
        The block of reflectors at positions of `column`, panel `row`.
    """
    cdef double* every = <double*> cnp.PyArray_DATA(n)
    cdef double* products = <double*> cnp.PyArray_DATA(s)
    cdef void* numbers = cnp.PyArray_DATA(v)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(v) == 4
    cdef int64_t blocks = cnp.PyArray_DIM(n, 0), below
    cdef double* block = every + (row * blocks + column) * SQUARE
    cdef floating_point_state found
    cdef int j, k
    with nogil:
        found = floating_point_default()
        for k in range(BLOCK):
            for j in range(BLOCK):
                block[k * BLOCK + j] = (
                    <double> (<float*> numbers)[j * BLOCK + k] if is_single else (<double*> numbers)[j * BLOCK + k])
        for below in range(row + 1, column + 1):
            multiply_add_double(
                block, products + below * SQUARE, BLOCK, 1, every + (below * blocks + column) * SQUARE, width, BLOCK,
                BLOCK)
        solve_square(block, products + row * SQUARE, width)
        floating_point_restore(found)


def narrow_numbers(cnp.ndarray numbers not None):
    """Turn float64 into float32 in place: the first half of the memory holds the result."""
    cdef double* wide = <double*> cnp.PyArray_DATA(numbers)
    cdef float* narrowed = <float*> wide
    cdef int64_t count = cnp.PyArray_SIZE(numbers), i
    cdef floating_point_state found
    cdef float value
    with nogil:
        found = floating_point_default()
        for i in range(count):
            value = <float> wide[i]
            memcpy(&narrowed[i], &value, sizeof(float))
        floating_point_restore(found)


def combine(
    cnp.ndarray x not None, cnp.ndarray v not None, cnp.ndarray n not None, cnp.ndarray indices not None,
    int64_t column, int lanes, int64_t reflectors
):
    """Make values, I + V N, without their scale.

    Parameters
    ----------
    x : ndarray, (at least as many positions, rounded up to 64; 64)
        Out: positions by lanes.
    v : ndarray, (panels, positions, 64)
        Reflectors; each panel is contiguous, and goes on to a multiple of 64 positions.
    n : ndarray, (blocks, blocks, 64, 64)
    indices : ndarray of int64
        The positions.
    column : int
        Which block of lanes; the first `lanes` of them are wanted.
    reflectors : int
        How many there are.
    """
    cdef char* values = <char*> cnp.PyArray_DATA(x)
    cdef char* numbers = <char*> cnp.PyArray_DATA(v)
    cdef char* every = <char*> cnp.PyArray_DATA(n)
    cdef int64_t* places = <int64_t*> cnp.PyArray_DATA(indices)
    cdef int64_t positions = cnp.PyArray_DIM(indices, 0), first_lane = column * BLOCK
    cdef int64_t blocks = cnp.PyArray_DIM(n, 0), panel_size = cnp.PyArray_STRIDE(v, 0), block, start, k, i
    cdef int size = cnp.PyArray_ITEMSIZE(v), width, count
    cdef char* factors
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        memset(values, 0, blocks_of(positions) * SQUARE * size)
        for i in range(positions):
            if first_lane <= places[i] < first_lane + BLOCK:
                if size == 4:
                    (<float*> values)[i * BLOCK + places[i] - first_lane] = 1
                else:
                    (<double*> values)[i * BLOCK + places[i] - first_lane] = 1
        for k in range(column + 1):
            width = <int> min(<int64_t> BLOCK, reflectors - k * BLOCK)
            factors = every + (k * blocks + column) * SQUARE * size
            for block in range(blocks_of(positions)):
                start = block * SQUARE * size
                count = <int> min(<int64_t> BLOCK, positions - block * BLOCK)
                if size == 4:
                    multiply_add_float(
                        <float*> (values + start), <float*> (numbers + k * panel_size + start), BLOCK, 1,
                        <float*> factors, count, lanes, width)
                else:
                    multiply_add_double(
                        <double*> (values + start), <double*> (numbers + k * panel_size + start), BLOCK, 1,
                        <double*> factors, count, lanes, width)
        floating_point_restore(found)


def store_block(
    cnp.ndarray x not None, cnp.ndarray scale not None, int lanes, bint is_across, int store, cnp.ndarray out not None,
    cnp.ndarray position_offsets not None, cnp.ndarray lane_offsets not None, bint is_joined
):
    """Put values into `out`: ``scale[lane] * x[position, lane]`` at the sum of their offsets in bytes (int64).

    Positions are as many as have offsets. `is_across`: positions, not lanes, lie side by side in the memory; `is_joined`:
    without gaps.
    """
    cdef void* values = cnp.PyArray_DATA(x)
    cdef void* factors = cnp.PyArray_DATA(scale)
    cdef char* target = <char*> cnp.PyArray_DATA(out)
    cdef int64_t* along = <int64_t*> cnp.PyArray_DATA(position_offsets)
    cdef int64_t* lane_places = <int64_t*> cnp.PyArray_DATA(lane_offsets)
    cdef int64_t positions = cnp.PyArray_DIM(position_offsets, 0)
    cdef int item_size = cnp.PyArray_ITEMSIZE(out)
    cdef bint is_single = cnp.PyArray_ITEMSIZE(x) == 4
    cdef char* memory
    cdef char* workspace = new_workspace(&memory)
    cdef floating_point_state found
    with nogil:
        found = floating_point_default()
        if is_single:
            store_values(
                <float*> values, <float*> factors, positions, lanes, is_across, <store_name> store, item_size, target,
                along, lane_places, is_joined, workspace)
        else:
            store_values(
                <double*> values, <double*> factors, positions, lanes, is_across, <store_name> store, item_size,
                target, along, lane_places, is_joined, workspace)
        floating_point_restore(found)
    free(memory)
