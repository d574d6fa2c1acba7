"""Reads the caller's array and turns one call of fill into a plan that kernels can follow without the GIL."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t, uintptr_t

from winit_fast import pages

cdef extern from "cpu.h" nogil:
    bint cpu_has_avx2()
    bint cpu_has_avx512()
    bint cpu_has_neon()

cdef extern from "floating_point.h" nogil:
    ctypedef struct floating_point_state:
        pass
    floating_point_state floating_point_default()
    void floating_point_restore(floating_point_state found)

cdef extern from "numpy/arrayobject.h":
    object PyArray_View(cnp.ndarray array, void* dtype, void* type)

cnp.import_array()

# The order of transform_name and store_name in _plan.pxd.
TRANSFORMS = (
    "words32", "constant32", "uniform32", "normal32", "truncated_centre32", "truncated_near32", "truncated_far32",
    "disk32", "truncated_disk32", "constant64", "uniform64", "normal64", "truncated64", "disk64", "truncated_disk64",
)
STORES = ("as_it_is", "bfloat16", "float16", "float8_e5m2", "float8_e4m3fn")

cdef enum:
    TILE_VALUES = 32768        # some 20 microseconds of work: little enough to share evenly, and starting costs little
    ACROSS_ROWS = 512          # a tile of a transposed target: rows fill cache lines, columns fill groups;
    ACROSS_COLUMNS = 64        # 256 x 64, 128 x 128 and 1024 x 32 were slower

cdef uint64_t AUXILIARY_GROUP = <uint64_t> 1 << 60  # block 2^63


cdef int64_t magnitude(int64_t value) noexcept nogil:
    return -value if value < 0 else value


cdef bint strides_nest(const axis_t* axes, int rank, int64_t item_size) noexcept nogil:
    """Whether no two elements share a byte, for views as NumPy users build them: each stride spans the next smaller axis."""
    cdef bint used[MOST_AXES]
    cdef int64_t reach = item_size
    cdef int k, smallest
    for k in range(rank):
        used[k] = axes[k].extent == 1
    for _ in range(rank):
        smallest = -1
        for k in range(rank):
            if not used[k] and (smallest < 0 or magnitude(axes[k].stride) < magnitude(axes[smallest].stride)):
                smallest = k
        if smallest < 0:
            break
        used[smallest] = True
        if magnitude(axes[smallest].stride) < reach:
            return False
        reach += magnitude(axes[smallest].stride) * (axes[smallest].extent - 1)
    return True


def refuse_overlap(cnp.ndarray out not None):
    """Raise ValueError where two elements of an array share memory."""
    cdef axis_t axes[MOST_AXES]
    cdef int k
    if cnp.PyArray_IS_C_CONTIGUOUS(out):
        return
    for k in range(cnp.PyArray_NDIM(out)):
        axes[k].extent = cnp.PyArray_DIM(out, k)
        axes[k].stride = cnp.PyArray_STRIDE(out, k)
    if not strides_nest(axes, cnp.PyArray_NDIM(out), cnp.PyArray_ITEMSIZE(out)):
        raise ValueError(
            f"out must not overlap itself in memory, got shape {(<object> out).shape} with strides "
            f"{(<object> out).strides}: a stride of 0, or one shorter than the axis below it")


def view_of(cnp.ndarray array not None):
    """The same memory as an array of NumPy's own class, with a shape and a type that only it can change."""
    return PyArray_View(array, NULL, <void*> cnp.ndarray)


def writable_view_of(cnp.ndarray array not None):
    """As `view_of`; None where the array may not be written to."""
    return PyArray_View(array, NULL, <void*> cnp.ndarray) if cnp.PyArray_ISWRITEABLE(array) else None


def bases_of(cnp.ndarray array not None) -> list:
    """The arrays that an array is a view of, one below the other, and the object that owns the memory of the last."""
    found = []
    base = <object> cnp.PyArray_BASE(array) if cnp.PyArray_BASE(array) != NULL else None
    while base is not None:
        found.append(base)
        if not isinstance(base, cnp.ndarray):
            break
        array = base
        base = <object> cnp.PyArray_BASE(array) if cnp.PyArray_BASE(array) != NULL else None
    return found


def is_lent(cnp.ndarray array not None) -> bool:
    """Whether another object than an array of NumPy's owns the memory: 5 times as fast as to ask `bases_of`."""
    cdef cnp.PyArrayObject* base = <cnp.PyArrayObject*> cnp.PyArray_BASE(array)
    while base != NULL:
        if not cnp.PyArray_Check(<object> base):
            return True
        base = <cnp.PyArrayObject*> cnp.PyArray_BASE(<cnp.ndarray> base)
    return False


cdef void find_bounds(cnp.ndarray view, char** low, char** high) noexcept:
    """The first byte of an array with elements, and the one after its last."""
    cdef int64_t reach
    cdef int k
    low[0] = <char*> cnp.PyArray_DATA(view)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(view)
    for k in range(cnp.PyArray_NDIM(view)):
        reach = cnp.PyArray_STRIDE(view, k) * (cnp.PyArray_DIM(view, k) - 1)
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach


def is_there(cnp.ndarray view not None) -> bool:
    """Whether the owner of a view's memory still has it: a resize that checks no references moves it."""
    cdef cnp.PyArrayObject* owner = <cnp.PyArrayObject*> cnp.PyArray_BASE(view)
    cdef char* low
    cdef char* high
    cdef char* begin
    if cnp.PyArray_SIZE(view) == 0:
        return True
    find_bounds(view, &low, &high)
    while owner != NULL and cnp.PyArray_Check(<object> owner):
        if cnp.PyArray_CHKFLAGS(<cnp.ndarray> owner, cnp.NPY_ARRAY_OWNDATA):
            begin = <char*> cnp.PyArray_DATA(<cnp.ndarray> owner)
            return begin <= low and high <= begin + cnp.PyArray_NBYTES(<cnp.ndarray> owner)
        owner = <cnp.PyArrayObject*> cnp.PyArray_BASE(<cnp.ndarray> owner)
    return True


def is_unchanged(cnp.ndarray array not None, cnp.ndarray view not None) -> bool:
    """Whether an array is what it was when a view of it was taken, and may still be written to."""
    cdef int k
    if (cnp.PyArray_DATA(array) != cnp.PyArray_DATA(view) or cnp.PyArray_NDIM(array) != cnp.PyArray_NDIM(view)
            or cnp.PyArray_DESCR(array) is not cnp.PyArray_DESCR(view) or not cnp.PyArray_ISWRITEABLE(array)):
        return False
    for k in range(cnp.PyArray_NDIM(view)):
        if (cnp.PyArray_DIM(array, k) != cnp.PyArray_DIM(view, k)
                or cnp.PyArray_STRIDE(array, k) != cnp.PyArray_STRIDE(view, k)):
            return False
    return is_there(view)


def are_within(cnp.ndarray rows not None, int64_t count) -> bool:
    """Whether all numbers of a contiguous array of int64 are in [0, count)."""
    cdef const int64_t* row = <const int64_t*> cnp.PyArray_DATA(rows)
    cdef int64_t size = cnp.PyArray_SIZE(rows), i
    cdef bint outside = False
    with nogil:
        for i in range(size):
            outside |= <uint64_t> row[i] >= <uint64_t> count
    return not outside


def address_of(cnp.ndarray out not None) -> int:
    """Where the memory of an array with elements begins: 20 times as fast as to ask the array."""
    return bounds_of(out)[0]


def bounds_of(cnp.ndarray out not None) -> tuple:
    """Where the memory of an array with elements begins, and where it has ended."""
    cdef char* low
    cdef char* high
    find_bounds(out, &low, &high)
    return <uintptr_t> low, <uintptr_t> high


def cpu_isas() -> tuple:
    """The ISAs that this CPU and its operating system run, best first."""
    found = (("avx512", cpu_has_avx512()), ("avx2", cpu_has_avx2()), ("neon", cpu_has_neon()), ("baseline", True))
    return tuple(isa for isa, is_there in found if is_there)


def with_default_floating_point(function, tuple arguments, dict named):
    """Call a Python function under the default rounding and without flush-to-zero, whatever this thread has set."""
    cdef floating_point_state found = floating_point_default()
    try:
        return function(*arguments, **named)
    finally:
        floating_point_restore(found)


cdef class Plan:
    """One fill of one array.

    Parameters
    ----------
    out : ndarray
        Writable, non-empty, of the type that `transform` and `store` produce. Its elements are addressed in logical order.
    transform, store : int
        Indices in `TRANSFORMS` and `STORES`.
    constants : tuple of float
        Those of the transform, in the order of _plan.pxd.
    seed, stream : int
        Key and stream of Philox, each in [0, 2^64).
    shape, offset : tuple of int or None
        The global tensor and where `out` begins in it; ``None``: `out` is the whole tensor. Already checked.
    start : int
        For words32 alone: the first word, in [0, 2^66).
    row_list : ndarray of int64 or None
        Which row of the global tensor each index of axis 0 is. Contiguous, already checked.
    is_auxiliary : bool
        Whether words come from the blocks from 2^63 on, which belong to no element.
    is_keyed : bool
        Whether `row_list` holds the streams of rows that are tensors of their own, in place of `stream`.

    Raises
    ------
    ValueError
        If `out` is empty, or elements of it overlap in memory.
    """

    def __init__(
        self, cnp.ndarray out not None, int transform, int store, tuple constants, uint64_t seed, uint64_t stream,
        tuple shape=None, tuple offset=None, start=0, cnp.ndarray row_list=None, bint is_auxiliary=False,
        bint is_keyed=False,
    ):
        cdef plan_t* plan = &self.c
        cdef axis_t axes[MOST_AXES]
        cdef int rank = cnp.PyArray_NDIM(out), k
        cdef uint64_t step = 1, begin = 0
        self.kept_alive = (out, row_list)
        if cnp.PyArray_SIZE(out) == 0:
            raise ValueError("out must have elements, got none")
        plan.seed = seed
        plan.stream = stream
        plan.transform = <transform_name> transform
        plan.store = <store_name> store
        if len(constants) > CONSTANTS:
            raise ValueError(f"constants must be at most {CONSTANTS}, got {len(constants)}")
        for k in range(<int> len(constants)):
            plan.constants[k] = constants[k]
        plan.item_size = <int> cnp.PyArray_ITEMSIZE(out)
        plan.group_shift = 4 if plan.item_size == 8 else 5
        plan.data = <char*> cnp.PyArray_DATA(out)
        for k in range(rank - 1, -1, -1):
            axes[k].extent = cnp.PyArray_DIM(out, k)
            axes[k].stride = cnp.PyArray_STRIDE(out, k)
            axes[k].step = step
            step *= <uint64_t> (axes[k].extent if shape is None else shape[k])
            if offset is not None:
                begin += <uint64_t> offset[k] * axes[k].step
        if start:
            plan.first_group = start // GROUP_WORDS
            plan.first_place = start % GROUP_WORDS
        else:
            plan.first_group = begin >> plan.group_shift
            plan.first_place = <int> (begin & ((<uint64_t> 1 << plan.group_shift) - 1))
        if is_auxiliary:
            plan.first_group += AUXILIARY_GROUP
        plan.is_aligned = cnp.PyArray_ISALIGNED(out)
        refuse_overlap(out)
        plan.row_list = NULL
        if row_list is not None:
            plan.row_list = <const int64_t*> cnp.PyArray_DATA(row_list)
        plan.is_keyed = is_keyed
        lay_out(plan, axes, rank)
        plan.is_past_cache = (
            cnp.PyArray_NBYTES(out) >= <int64_t> pages.LARGE and pages.prepare(out)
            and cnp.PyArray_NBYTES(out) >= <int64_t> pages.PAST_CACHE)

    def moved(self, uintptr_t address, uint64_t seed, uint64_t stream) -> Plan:
        """The same fill of other memory of the same strides, under another seed and stream.

        Whoever asks keeps that memory alive until it is filled. A plan that was moved keeps none alive itself.
        """
        cdef Plan other = Plan.__new__(Plan)
        if self.c.row_list != NULL:
            raise ValueError("a plan with a list of rows cannot be moved")
        other.c = self.c
        other.c.data = <char*> address
        other.c.seed = seed
        other.c.stream = stream
        other.c.is_aligned = address % <uintptr_t> self.c.item_size == 0
        return other

    @property
    def units(self) -> int:
        """How many units of work there are; any split of them over calls and threads gives the same bits."""
        return self.c.units

    @property
    def unit_values(self) -> int:
        """How many values a unit has, at most."""
        return self.c.tile_rows * self.c.tile_columns


cdef void lay_out(plan_t* plan, axis_t* axes, int rank) noexcept nogil:
    """Merge axes that continue each other in memory and in the tensor, then choose panels and tiles."""
    cdef bint is_listed = plan.row_list != NULL
    cdef int kept = 0, k, fastest
    cdef axis_t* last
    for k in range(rank):
        if axes[k].extent == 1 and not (is_listed and k == 0):
            continue
        if kept > 0 and not (is_listed and kept == 1):
            last = &axes[kept - 1]
            if (last.stride == axes[k].stride * axes[k].extent
                    and last.step == axes[k].step * <uint64_t> axes[k].extent):
                last.extent *= axes[k].extent
                last.stride = axes[k].stride
                last.step = axes[k].step
                continue
        axes[kept] = axes[k]
        kept += 1
    # Columns are the neighbours of the global tensor, if `out` holds any.
    plan.columns.extent = 1
    plan.columns.stride = plan.item_size
    plan.columns.step = 1
    if kept > 0 and axes[kept - 1].step == 1 and not (is_listed and kept == 1):
        kept -= 1
        plan.columns = axes[kept]
    fastest = kept - 1
    for k in range(kept - 1, -1, -1):
        if magnitude(axes[k].stride) < magnitude(axes[fastest].stride):
            fastest = k
    plan.is_across = (
        kept > 0 and plan.columns.extent > 1 and magnitude(axes[fastest].stride) < magnitude(plan.columns.stride))
    if not plan.is_across:
        fastest = kept - 1
    plan.rows.extent = 1
    plan.rows.stride = plan.item_size
    plan.rows.step = 0
    plan.outer_rank = 0
    plan.row_list_axis = -1
    for k in range(kept):
        if k == fastest:
            plan.rows = axes[k]
        else:
            if is_listed and k == 0:
                plan.row_list_axis = 0
            plan.outer[plan.outer_rank] = axes[k]
            plan.outer_rank += 1
    if is_listed and fastest == 0:
        plan.row_list_axis = plan.outer_rank
    plan.tile_columns = min(plan.columns.extent, <int64_t> (ACROSS_COLUMNS if plan.is_across else TILE_VALUES))
    plan.tile_rows = min(
        plan.rows.extent, <int64_t> (ACROSS_ROWS if plan.is_across else TILE_VALUES // plan.tile_columns))
    plan.row_tiles = (plan.rows.extent - 1) // plan.tile_rows + 1
    plan.column_tiles = (plan.columns.extent - 1) // plan.tile_columns + 1
    plan.units = plan.row_tiles * plan.column_tiles
    for k in range(plan.outer_rank):
        plan.units *= plan.outer[k].extent
