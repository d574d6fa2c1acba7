"""The kernels for other processors in Triton's interpreter: TRITON_INTERPRET=1 pytest -m device (.ci/device)."""

import os
from functools import partial
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs TRITON_INTERPRET=1 in the environment", allow_module_level=True)

from device_cases import CASES, NAME, SEED, conversion_of, memory, run, scheme_of  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from winit_fast import fill_rows  # noqa: E402
from winit_fast._plan import STORES, TRANSFORMS  # noqa: E402
from winit_fast.adapters._device import launch as launching  # noqa: E402
from winit_fast.adapters._device.launch import Panels, launch, lay_out, values_of  # noqa: E402
from winit_fast.adapters._memory.torch import array_of, name_of  # noqa: E402
from winit_fast.initializer import Initializer  # noqa: E402
from winit_fast.lowering import ELEMENT_TYPES  # noqa: E402

pytestmark = pytest.mark.device


def fill_both(make, initializer, shape, offset, seed=SEED):
    """`make` makes a view of memory and that memory, which the kernels and the CPU then fill, each its own."""
    (one, whole), (other, expected) = make(), make()
    values = values_of(conversion_of(initializer, shape, one.dtype), seed, initializer.stream)
    part = one
    if one.is_complex():
        part, shape, offset = torch.view_as_real(one), (*shape, 2), (*offset, 0)
    launch(part, values, lay_out(part, shape, offset))
    shape, offset = shape[: one.dim()], offset[: one.dim()]
    initializer.fill(array_of(other), seed=seed, shape=shape, offset=offset, threads=1)
    return whole.view(torch.uint8), expected.view(torch.uint8), values


@pytest.mark.parametrize("place", ["at the beginning", "odd", "across the boundary of 2^32 blocks", "near the end"])
@pytest.mark.parametrize(("transform", "dtype"), CASES)
def test_a_run_has_the_bits_of_fill(transform, dtype, place):
    number = CASES.index((transform, dtype))
    per_block = 1 if dtype is torch.complex128 else 2 if dtype.itemsize == 8 else 4
    start, count = {
        "at the beginning": (0, 2048 + 1 + number),
        "odd": (32 * 12345 + 7 + number, 700 + 11 * number),
        "across the boundary of 2^32 blocks": (per_block * 2**32 - 333 - number, 777),
        "near the end": (2**60 - 5 - number, 5 + number % 2),
    }[place]
    initializer = Initializer(scheme_of(transform, dtype), name=NAME, in_axis=0, out_axis=0)  # a fan of 2
    one, other, values = fill_both(lambda: run(count, dtype), initializer, (2, 2**60), (0, start))
    assert values.transform == transform
    assert torch.equal(one, other)


def test_every_transform_and_every_way_to_store_is_among_the_cases():
    assert {transform for transform, _ in CASES} == {*TRANSFORMS} - {"words32"}
    assert {ELEMENT_TYPES[name_of(dtype)].store for _, dtype in CASES} == {*range(len(STORES))}
    assert {name_of(dtype) for _, dtype in CASES} == {*ELEMENT_TYPES}


LAYOUTS = {
    "a number": lambda new: (new(1)[0], ()),
    "one axis with gaps": lambda new: (new(700)[5:605:3], (200,)),
    "transposed": lambda new: (new(50 * 40).view(50, 40).t(), (40, 50)),
    "transposed, wide": lambda new: (new(5 * 150).view(5, 150).t(), (150, 5)),
    "a corner": lambda new: (new(70 * 90).view(70, 90)[3:33, 5:75], (100, 200)),
    "every other row and column": lambda new: (new(30 * 90).view(30, 90)[::2, 1::2], (20, 45)),
    "rows of whole groups": lambda new: (new(70 * 96).view(70, 96)[::3, :64], (30, 64)),
    "channels_last": lambda new: (new(4 * 5 * 6 * 7).view(4, 6, 7, 5).permute(0, 3, 1, 2), (4, 5, 6, 7)),
    "seven axes": lambda new: (
        new(1 << 11).view(2, 4, 4, 4, 4, 2, 2)[:, ::2, :3, ::2, 1:, :, :1].permute(1, 0, 6, 3, 2, 5, 4),
        (3, 2, 2, 2, 3, 2, 4),
    ),
    "axes of one": lambda new: (new(600).view(1, 30, 1, 20)[:, 3:9], (3, 30, 1, 20)),
    "one column": lambda new: (new(700).view(100, 7)[:, 3:4], (100, 9)),
}  # fmt: skip


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.float64, torch.complex64], ids=name_of
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_bits_of_fill(layout, dtype):
    kept = []

    def make():
        def new(count):
            kept.append(memory(count, dtype))
            return kept[-1]

        return LAYOUTS[layout](new)[0], kept[-1]

    part, shape = LAYOUTS[layout](partial(memory, dtype=dtype))
    offset = tuple(size - extent for size, extent in zip(shape, part.shape, strict=True))
    axes = {"in_axis": (), "out_axis": ()}
    initializer = Initializer("he_uniform" if dtype.is_complex else "truncated_normal(std=0.1)", name=NAME, **axes)
    one, other, _ = fill_both(make, initializer, shape, offset)
    assert torch.equal(one, other)


@st.composite
def views(draw):
    """The sizes of memory, and which slices and order of its axes a tensor is; and the global tensor around it."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda sizes: np.prod(sizes) <= 4000))
    slices = []
    for size in sizes:
        begin = draw(st.integers(0, size - 1))
        slices.append(slice(begin, draw(st.integers(begin + 1, size)), draw(st.integers(1, 3))))
    order = draw(st.permutations(range(len(sizes))))
    before, behind = (draw(st.lists(st.integers(0, 40), min_size=len(sizes), max_size=len(sizes))) for _ in range(2))
    return sizes, tuple(slices), order, before, behind


@settings(max_examples=40)
@given(view=views(), dtype=st.sampled_from([torch.float32, torch.float16, torch.float64, torch.complex64]))
def test_any_view_has_the_bits_of_fill(view, dtype):
    sizes, slices, order, before, behind = view

    def make():
        whole = memory(int(np.prod(sizes)), dtype)
        return whole.view(sizes)[slices].permute(order), whole

    extent = make()[0].shape
    shape = tuple(map(sum, zip(before, extent, behind, strict=True)))
    initializer = Initializer("he_normal", name=NAME, in_axis=(), out_axis=())
    one, other, _ = fill_both(make, initializer, shape, tuple(before))
    assert torch.equal(one, other)


@pytest.mark.parametrize("bits", [32, 64])
def test_rows_count_no_more_groups_than_the_worst_of_them_meets(bits):
    group = 1024 // bits
    for first, columns, step in product((0, 3, 8, group, 20 * group + 5), (1, 2, 8, 33, 48, 64), (2, 8, 33, 48, 64, 7)):
        starts = [first + index * step for index in range(group)]
        most = max((start + columns - 1) // group - start // group + 1 for start in starts)
        assert Panels(first, 0, (columns, 1, 1), ((group, 99, step),)).pieces(bits) == most


@pytest.mark.parametrize("padding", [-1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=name_of)
@pytest.mark.parametrize(("sizes", "part"), [
    ((64,), ...), ((50,), ...), ((), ...), ((5, 7, 3), ...), ((60,), (slice(None, None, 2), slice(4, 54))),
    ((12, 30), (slice(None), slice(1, 9), slice(None, None, 3))),
])  # fmt: skip
def test_a_list_of_rows_has_the_bits_of_fill_rows(sizes, part, dtype, padding):
    listed = np.array([998, 3, 3, 0, 999, 17, *range(200, 290), 5, 4, 3, 2])

    def make():
        whole = memory(2 * len(listed) * int(np.prod(sizes)), dtype)
        return whole.view(2 * len(listed), *sizes)[part][: len(listed)], whole

    (one, whole), (other, expected) = make(), make()
    rows = listed[: len(one)]
    shape = (1000, *one.shape[1:])
    initializer = Initializer("uniform(low=-1, high=1)", name=NAME)
    values = values_of(conversion_of(initializer, shape, dtype), SEED, NAME)
    launch(one, values, lay_out(one, shape, (0,) * len(shape), torch.from_numpy(rows), padding))
    fill_rows(
        array_of(other), rows, initializer.scheme, seed=SEED, name=NAME, shape=shape,
        padding_idx=None if padding < 0 else padding,
    )  # fmt: skip
    assert torch.equal(whole.view(torch.uint8), expected.view(torch.uint8))


def test_what_is_too_much_for_one_launch_is_launched_in_parts(monkeypatch):
    monkeypatch.setattr(launching, "_MOST_UNITS", 128)
    initializer = Initializer("normal", name=NAME)
    for layout in ("transposed, wide", "every other row and column", "one axis with gaps"):
        shape = LAYOUTS[layout](partial(memory, dtype=torch.float32))[1]

        def make(layout=layout):
            kept = []
            part, _ = LAYOUTS[layout](lambda count: kept.append(memory(count, torch.float32)) or kept[-1])
            return part, kept[-1]

        extent = make()[0].shape
        offset = tuple(size - length for size, length in zip(shape, extent, strict=True))
        one, other, _ = fill_both(make, initializer, shape, offset)
        assert torch.equal(one, other), layout


def test_rows_are_launched_in_parts_too(monkeypatch):
    monkeypatch.setattr(launching, "_MOST_UNITS", 100)
    initializer = Initializer("normal", name=NAME)
    values = values_of(conversion_of(initializer, (1000, 50), torch.float32), SEED, NAME)
    rows = np.random.default_rng(1).integers(0, 1000, 300)
    one, other = torch.empty(300, 50), np.empty((300, 50), "float32")
    launch(one, values, lay_out(one, (1000, 50), (0, 0), torch.from_numpy(rows)))
    fill_rows(other, rows, "normal", seed=SEED, name=NAME, shape=(1000, 50))
    assert np.array_equal(one.numpy(), other)
