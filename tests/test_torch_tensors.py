"""adapters.torch.init_ and init: the values of `fill`, in any tensor, where it stands."""

import contextlib
import os
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from arrays import DTYPES, bits
from processes import printed

import winit_fast
from winit_fast import adapters

torch = pytest.importorskip("torch")
from winit_fast.adapters._memory.torch import array_of  # noqa: E402
from winit_fast.adapters.torch import plain  # noqa: E402

pytestmark = pytest.mark.frameworks

init, init_ = adapters.torch.init, adapters.torch.init_
CONNECTED = ["orthogonal", "sparse(0.5)"]


def filled(shape, scheme, dtype="float32", **arguments):
    """What `fill` writes, in PyTorch's layout unless axes are given."""
    axes = {} if "in_axis" in arguments else {"in_axis": 1, "out_axis": 0}
    array = np.empty(shape, DTYPES.get(dtype, dtype))
    return winit_fast.fill(array, scheme, **({"seed": 7} | axes | arguments))


def bytes_of(tensor):
    """The elements in logical order, as bytes."""
    plain = tensor.detach().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy()


def is_same(tensor, array):
    return tuple(tensor.shape) == array.shape and bool((bytes_of(tensor) == bits(array).view(np.uint8)).all())


@pytest.fixture
def tiny_staging(monkeypatch):
    monkeypatch.setattr(plain, "PIECE", 64)


def through_host(tensor, scheme, *, seed=7, shape=None, offset=None, **keywords):
    """Fill a tensor of the CPU as one of another device is filled."""
    initializer = plain.in_torch_layout(tensor.dim(), scheme, **keywords)
    plain._fill_through_host(tensor, initializer, seed=seed, shape=shape, offset=offset)


# What it writes, and where


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
@pytest.mark.parametrize("scheme", ["he_normal", "xavier_uniform", "zeros"])
def test_init_writes_the_bits_of_fill_in_every_dtype(dtype, scheme):
    tensor = torch.empty(33, 65, dtype=getattr(torch, dtype))
    assert init_(tensor, scheme, seed=7, name="layer.weight") is tensor
    assert is_same(tensor, filled((33, 65), scheme, dtype, name="layer.weight"))
    made = init((33, 65), scheme, dtype=getattr(torch, dtype), seed=7, name="layer.weight")
    assert made.dtype == tensor.dtype
    assert is_same(made, filled((33, 65), scheme, dtype, name="layer.weight"))


@pytest.mark.parametrize(
    ("memory", "view"),
    [
        ((40, 30), lambda memory: memory.T),
        ((40, 30), lambda memory: memory[3:37:3, 1::2]),
        ((40, 30), lambda memory: memory[:, 4]),
        ((2, 3, 8, 6), lambda memory: memory.permute(0, 3, 1, 2)),
        ((600,), lambda memory: memory.view(20, 30)[1:]),
        ((20, 1, 30), lambda memory: memory.transpose(0, 2)),
    ],
    ids=["transposed", "steps", "column", "permuted", "offset", "size 1"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64", "complex64"])
def test_init_writes_views_in_their_logical_order_and_nothing_else(memory, view, dtype):
    scheme = "constant(0.5)" if dtype == "complex64" else "normal"
    whole = torch.full(memory, 9, dtype=getattr(torch, dtype))
    part = view(whole)
    init_(part, scheme, seed=7)
    assert is_same(part, filled(tuple(part.shape), scheme, dtype))
    part.fill_(9)
    assert bool((whole.to(torch.complex64) == 9).all())


def test_init_writes_channels_last_memory_in_its_logical_order():
    kernel = torch.empty(8, 4, 3, 3).to(memory_format=torch.channels_last)
    init_(kernel, "he_normal", seed=7)
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert is_same(kernel, filled((8, 4, 3, 3), "he_normal"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_init_fills_parameters_in_place_and_autograd_sees_the_write(dtype):
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=getattr(torch, dtype)))
    version, address = weight._version, weight.data_ptr()
    loss = (weight * weight).sum()
    init_(weight, "he_normal", seed=7)
    assert weight._version > version
    assert weight.data_ptr() == address
    assert weight.requires_grad
    assert weight.is_leaf
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    (2 * weight).sum().backward()  # what is built afterwards is in order
    assert bool((weight.grad == 2).all())


def test_writing_a_view_bumps_the_version_of_what_it_views():
    whole = torch.zeros(4, 4)
    init_(whole[1:, ::2], "normal", seed=7)
    assert whole._version == 1


def computed():
    """Tensors that are the results of computations on a parameter, and what a fill would leave as it is."""
    weight = torch.nn.Parameter(torch.full((4, 4), 2.0))
    parametrizations = torch.nn.utils.parametrizations
    layers = {
        name: parametrize(torch.nn.Linear(4, 4))
        for name, parametrize in (
            ("weight_norm", parametrizations.weight_norm),
            ("orthogonal", parametrizations.orthogonal),
            ("spectral_norm", parametrizations.spectral_norm),
            ("weight_norm of old", torch.nn.utils.weight_norm),
        )
    }
    return {
        **{name: lambda layer=layer: layer.weight for name, layer in layers.items()},
        "a view of weight_norm": lambda: layers["weight_norm"].weight.T[1:],
        "another type": lambda: weight.double(),
        "a copy": lambda: weight.clone(),
        "rows": lambda: weight[[0, 2]],
        "contiguous": lambda: weight.T.contiguous(),
        "a product": lambda: weight * 2,
    }


def test_a_large_tensor_goes_through_two_buffers_of_8_mib(monkeypatch):
    sizes, empty = [], torch.empty
    tensor = torch.empty(3 << 21, dtype=torch.float64)  # 48 MiB

    def count(size, *, dtype, **others):
        sizes.append(size * dtype.itemsize)
        return empty(size, dtype=dtype, **others)

    monkeypatch.setattr(torch, "empty", count)
    plain._fill_through_host(tensor, plain.Initializer("normal"), seed=7)
    assert sizes == [8 << 20, 8 << 20]


class OnCUDA(torch.Tensor):
    """Says that it is on CUDA, and is on the CPU."""

    is_cuda = True


@pytest.mark.parametrize(("shape", "scheme", "said"), [
    ((128, 128), "normal", ["pinned 65536"]),
    ((128, 129), "normal", ["pinned 24000", "pinned 24000", "copied", "copied", 0, "copied", 2, 1]),
    ((128, 129), "orthogonal", ["pinned 66048", "copied", 0]),
])  # fmt: skip
def test_pinned_buffers_are_written_again_when_they_were_copied_and_small_tensors_wait_for_nothing(
    monkeypatch, shape, scheme, said
):
    log, empty = [], torch.empty

    class Event:
        def __init__(self):
            self.number = log.count("copied")
            log.append("copied")

        def synchronize(self):
            log.append(self.number)

    def make(size, *, dtype, device, pin_memory):
        assert pin_memory
        log.append(f"pinned {size * dtype.itemsize}")
        return empty(size, dtype=dtype, device=device)

    tensor = torch.zeros(shape).as_subclass(OnCUDA)
    monkeypatch.setattr(plain, "PIECE", 24000 if scheme == "normal" and shape != (128, 128) else plain.PIECE)
    monkeypatch.setattr(plain.trust, "is_captured", lambda tensor: False)
    monkeypatch.setattr(torch, "empty", make)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(record_event=Event))
    plain._fill_through_host(tensor, plain.in_torch_layout(2, scheme), seed=7)
    monkeypatch.undo()
    assert log == said
    assert is_same(tensor, filled(shape, scheme))


PIECES = {
    "chunk": lambda weight: weight.chunk(3),
    "split": lambda weight: weight.split(4),
    "unbind": lambda weight: weight.view(3, 4, 4).unbind(),
}
DRAW_OR_SET = [
    name
    for name in vars(torch.nn.init)
    if name.endswith("_") and not name.startswith("_") and name not in ("dirac_", "sparse_", "constant_")
]


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("name", ["init_", *DRAW_OR_SET])
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_pieces_of_a_parameter_are_filled_one_after_the_other(pieces, name, accelerated):
    weight = torch.nn.Parameter(torch.full((12, 4), torch.nan))
    with adapters.torch.accelerate(seed=3) if accelerated else contextlib.nullcontext():
        fill = getattr(torch.nn.init if accelerated else adapters.torch, name, adapters.torch.init_)
        for number, piece in enumerate(pieces(weight)):
            fill(piece, **({"scheme": "normal", "seed": 1, "name": number} if name == "init_" else {}))
    assert not weight.isnan().any()


def test_a_piece_of_what_was_computed_is_refused_too():
    weight = torch.nn.Parameter(torch.ones(12, 4))
    for pieces in PIECES.values():
        with pytest.raises(ValueError, match="computed from others"):
            init_(pieces(weight * 2)[1], "normal", seed=1)


@pytest.mark.parametrize("kind", computed())
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_was_computed_is_refused_since_what_it_was_computed_from_would_stay(kind):
    for fill in (
        lambda tensor: init_(tensor, "normal"),
        lambda tensor: adapters.torch.normal_(tensor),
        lambda tensor: adapters.torch.zeros_(tensor),
        lambda tensor: adapters.init_(tensor, "zeros"),
        plain.refuse_unusable,
    ):
        tensor = computed()[kind]()
        before, state = tensor.clone(), torch.get_rng_state()
        with pytest.raises(ValueError, match=r"must not be computed from others.*Backward.*module\.weight = "):
            fill(tensor)
        assert torch.equal(tensor, before)
        assert torch.equal(torch.get_rng_state(), state)


def test_a_parametrized_weight_takes_what_is_assigned():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4))
    layer.weight = init((4, 4), "he_normal", seed=7)
    torch.testing.assert_close(layer.weight, init((4, 4), "he_normal", seed=7))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_refusal_of_a_weight_under_weight_norm_begins_with_what_to_do():
    for norm in (torch.nn.utils.parametrizations.weight_norm, torch.nn.utils.weight_norm):
        with pytest.raises(ValueError, match=r"Backward0: assign one, module\.weight = .*, or use init_module_; else"):
            init_(norm(torch.nn.Linear(4, 4)).weight, "normal")


def test_what_parametrize_keeps_until_its_block_ends_is_refused():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4))
    with torch.nn.utils.parametrize.cached(), torch.no_grad():
        for tensor in (layer.weight, layer.weight[1:]):
            with pytest.raises(ValueError, match=r"must not be what torch\.nn\.utils\.parametrize\.cached keeps"):
                init_(tensor, "normal", seed=7)
        init_(layer.bias, "normal", seed=7)


@pytest.mark.parametrize(
    "view",
    [
        lambda weight: weight,
        lambda weight: weight.T,
        lambda weight: weight.chunk(2)[1],
        lambda weight: weight.unbind()[2],
        lambda weight: weight.view(-1)[3:],
        lambda weight: weight.data,
        lambda weight: weight.detach()[:, 1],
        lambda weight: weight.float(),  # of that type already
        lambda weight: torch.nn.ParameterList([weight]).state_dict()["0"],
    ],
)
def test_views_of_a_parameter_are_filled_where_it_stands(view):
    weight = torch.nn.Parameter(torch.full((4, 6), 9.0))
    tensor = init_(view(weight), "normal", seed=7)
    assert is_same(tensor, filled(tuple(tensor.shape), "normal"))
    assert int((weight != 9).sum()) == tensor.numel()


def test_complex_parameters_are_filled_through_their_real_view():
    weight = torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    init_(torch.view_as_real(weight), "normal", seed=7)
    assert is_same(torch.view_as_real(weight.data), filled((3, 2), "normal"))


def wrapped():
    """Tensors without memory of their own, and the words that say so."""
    from torch.masked import masked_tensor
    from torch.testing._internal.two_tensor import TwoTensor

    plain = torch.full((3, 4), 9.0)
    freed = torch.nn.Parameter(torch.empty(3, 4))
    freed.untyped_storage().resize_(0)

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls, inner):
            return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            raise NotImplementedError

    return {
        "masked": (
            masked_tensor(plain, plain > 0),
            TypeError,
            "must have memory of its own, got MaskedTensor, which is",
        ),
        "two": (
            TwoTensor(plain, plain),
            TypeError,
            "must have memory of its own, got TwoTensor, which is made of other",
        ),
        "a parameter of two": (
            torch.nn.Parameter(TwoTensor(plain, plain)),
            TypeError,
            "memory of its own, got TwoTensor",
        ),
        "wrapper": (
            Wrapper(plain),
            TypeError,
            "must have memory of its own, got Wrapper, which is made of other tensors",
        ),
        "nested": (
            torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
            TypeError,
            "must be dense, got a nested",
        ),
        "freed": (freed, ValueError, r"must have memory, got shape \(3, 4\) whose storage was freed"),
    }


@pytest.mark.parametrize("kind", ["masked", "two", "a parameter of two", "wrapper", "nested", "freed"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_has_no_memory_of_its_own_is_refused_in_plain_words(kind):
    tensor, error, words = wrapped()[kind]
    state = torch.get_rng_state()
    for fill in (lambda: init_(tensor, "normal"), lambda: plain.refuse_unusable(tensor)):
        with pytest.raises(error, match=words):
            fill()
    assert torch.equal(torch.get_rng_state(), state)


def test_slices_of_a_dtensor_that_are_copies_are_refused_and_views_are_filled():
    code = """
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, Replicate, Shard, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from winit_fast import adapters

dist.init_process_group("fake", rank=1, world_size=2, store=FakeStore())
mesh = init_device_mesh("cpu", (2,))
local = torch.full((4, 6), 9.0)
weight = torch.nn.Parameter(DTensor.from_local(local, mesh, [Shard(0)], run_check=False))
whole = [Replicate()]
for make in (lambda w: w[2:4], lambda w: w * 2, lambda w: w.full_tensor(), lambda w: w.redistribute(mesh, whole)):
    for given in (weight, weight.detach()):
        tensor = make(given)
        try:
            adapters.torch.init_(tensor, "normal", seed=7)
        except ValueError as error:
            print(next(word for word in ("must not be a copy", "must not be computed from") if word in str(error)))
        else:
            print("filled")
print(bool((local == 9).all()))
adapters.torch.init_(weight[:, 1:3], "normal", seed=7)
adapters.torch.init_(weight.T[4:], "normal", seed=7)
print((local != 9).any(0).tolist())
adapters.torch.init_(weight.to_local(), "normal", seed=7, shape=(8, 6), offset=(4, 0))
print(bool((local == adapters.torch.init((8, 6), "normal", seed=7, name=0)[4:]).all()))
"""
    seen = printed(code).split("\n")
    assert seen[:2] == ["must not be a copy"] * 2
    assert seen[2:8] == ["must not be computed from", "filled"] * 3  # without gradients nobody can tell
    assert seen[8:11] == ["True", "[False, True, True, False, True, True]", "True"]


def test_a_model_with_a_weight_that_has_no_memory_is_refused_before_any_layer_is_written():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = torch.nn.Parameter(wrapped()["two"][0])
    before = model[0].weight.clone()
    with pytest.raises(TypeError, match=r"1\.weight .*memory of its own, got TwoTensor"):
        adapters.torch.init_module_(model, {"*": "normal"}, seed=7)
    assert torch.equal(model[0].weight, before)


def test_init_works_under_no_grad_and_inference_mode_and_in_tensors_made_there():
    with torch.inference_mode():
        inner = init_(torch.empty(3, 4), "normal", seed=7)
        made = init((3, 4), "normal", seed=7)
        drawn = init((3, 4), "normal")
    with torch.no_grad():
        other = init((3, 4), "normal", seed=7)
    outside = init_(torch.empty_like(inner), "normal", seed=7)
    assert all(is_same(tensor, filled((3, 4), "normal")) for tensor in (inner, made, other, outside))
    with pytest.raises(ValueError, match=r"tensor must not be one of torch\.inference_mode"):
        init_(inner, "normal", seed=8)
    assert is_same(inner, filled((3, 4), "normal"))
    assert not torch.equal(drawn, made)


def test_init_makes_tensors_as_empty_does():
    assert init(5, "normal").shape == (5,)
    assert init((), "normal").shape == ()
    assert init([2, 3], "normal").dtype == torch.get_default_dtype()
    weight = init((2, 3), "normal", dtype=torch.float16, requires_grad=True)
    assert (weight.dtype, weight.requires_grad, weight.is_leaf) == (torch.float16, True, True)
    assert not init(5, "normal").requires_grad
    assert init((2, 3), "normal", device="meta").is_meta
    with pytest.raises(TypeError, match=r"offset must be left out .* got \(1, 0\)"):
        init((2, 3), "normal", offset=(1, 0))


# Fans


@pytest.mark.parametrize(
    ("shape", "axes", "fan_in"),
    [
        ((50, 200), {}, 200),
        ((32, 16, 3, 3), {}, 144),
        ((8, 50, 200), {"batch_axis": 0}, 200),
        ((8, 50, 200), {"batch_axis": -3}, 200),
        ((50, 200, 8), {"batch_axis": [-1]}, 200),
        ((2, 8, 50, 200), {"batch_axis": (1, 0)}, 200),
        ((200, 50), {"in_axis": 0, "out_axis": 1}, 200),
        ((50, 10, 20), {"in_axis": (1, 2)}, 200),
        ((32, 16, 5), {"in_axis": -1}, 80),
        ((5, 32, 16), {"out_axis": -2, "in_axis": -1}, 80),
    ],
)
def test_the_first_two_axes_that_do_not_stack_are_out_and_in_by_default(shape, axes, fan_in):
    expected = init(shape, f"normal(std={(2 / fan_in) ** 0.5!r})", seed=5)
    torch.testing.assert_close(init(shape, "he_normal", seed=5, **axes), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("axes", [{"in_axis": 0}, {"in_axis": (-2,)}, {"out_axis": 1}, {"out_axis": -1}])
def test_one_axis_is_not_taken_for_both_by_default(axes):
    with pytest.raises(ValueError, match="_axis must be given with"):
        init((3, 4), "he_normal", seed=0, **axes)


@pytest.mark.parametrize(
    ("shape", "axes"), [((5,), {}), ((), {}), ((8, 5), {"batch_axis": 0}), ((8,), {"batch_axis": 0})]
)
def test_what_has_no_fans_takes_schemes_without_them_and_no_others(shape, axes):
    assert init(shape, "normal", seed=0, **axes).shape == shape
    with pytest.raises(ValueError, match="axis"):
        init(shape, "he_normal", seed=0, **axes)


@pytest.mark.parametrize(
    ("dtype", "scheme"),
    [("float32", "he_normal"), ("bfloat16", "xavier_uniform"), ("complex64", "he_normal"), ("float64", "orthogonal")],
)
@pytest.mark.parametrize(("matrices", "split"), [(3, (3, 8, 10)), ((3, 0), (3, 8, 10)), ((2, 1), (24, 2, 5))])
def test_matrices_that_follow_each_other_have_the_values_of_the_reshaped_tensor(dtype, scheme, matrices, split):
    kind, stack = getattr(torch, dtype), 0 if split[0] == 3 else 1
    packed = init((24, 10), scheme, dtype=kind, seed=7, matrices=matrices)
    stacked = init(split, scheme, dtype=kind, seed=7, name=0, batch_axis=stack)
    assert torch.equal(packed, stacked.reshape(24, 10))
    rows = init_(
        torch.empty(9, 10, dtype=kind), scheme, seed=7, name=0, shape=(24, 10), offset=(5, 0), matrices=matrices
    )
    assert torch.equal(rows, packed[5:14])


@pytest.mark.usefixtures("tiny_staging")
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", "sparse(0.5)"])
def test_matrices_go_through_the_host_too(scheme):
    tensor = torch.empty(24, 10)
    through_host(tensor, scheme, matrices=3)
    assert torch.equal(tensor, init((24, 10), scheme, seed=7, matrices=3))


# Parts


@pytest.mark.parametrize("scheme", ["he_normal", "truncated_normal(std=0.02)", *CONNECTED])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_part_by_shape_and_offset_is_the_slice_of_the_whole(scheme, dtype):
    kind = getattr(torch, dtype)
    whole = init((60, 16), scheme, dtype=kind, seed=7, name="user_id")
    part = torch.empty(8, 20, dtype=kind).T
    init_(part, scheme, seed=7, name="user_id", shape=(60, 16), offset=(40, 8))
    assert torch.equal(part, whole[40:, 8:])


def test_the_row_of_padding_is_zero_in_the_whole_and_in_parts():
    table = init((10, 4), "normal", seed=7, padding_idx=-9)
    assert table.any(1).tolist() == [row != 1 for row in range(10)]
    half = init_(torch.empty(5, 4), "normal", seed=7, padding_idx=1, shape=(10, 4), offset=torch.Size((0, 0)))
    assert torch.equal(half, table[:5])


def test_the_row_of_padding_counts_in_each_table_of_a_stack():
    tables = init((5, 100, 16), "normal", seed=7, batch_axis=0, padding_idx=3)
    assert (tables == 0).all(2).nonzero().tolist() == [[table, 3] for table in range(5)]


def test_a_part_needs_its_offset():
    for fill in (init_, through_host):
        tensor = torch.full((4, 4), 9.0)
        with pytest.raises(
            ValueError, match=r"offset must be given where out is smaller than shape.*\(4, 4\) of \(8, 4\)"
        ):
            fill(tensor, "normal", seed=7, shape=(8, 4))
        assert bool((tensor == 9).all())


@pytest.mark.parametrize("scheme", ["normal", "orthogonal"])
def test_threads_do_not_change_the_bits(scheme):
    one = init((500, 300), scheme, seed=7, threads=1)
    assert torch.equal(one, init((500, 300), scheme, seed=7, threads=3))
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert torch.equal(one, init((500, 300), scheme, seed=7))
    finally:
        torch.set_num_threads(before)


# Seeds


def test_no_seed_is_one_draw_of_the_default_generator():
    torch.manual_seed(3)
    first, second, after = init(8, "normal"), init(8, "normal"), torch.rand(1)
    assert not (first == second).any()
    torch.manual_seed(3)
    drawn = [torch.empty((), dtype=torch.int64).random_(-(2**63), None).item() % 2**64 for _ in range(2)]
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(first, init(8, "normal", seed=drawn[0]))
    assert torch.equal(second, init(8, "normal", seed=drawn[1]))


def test_a_generator_is_drawn_from_and_the_default_one_left_alone():
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    first, second = (init(8, "normal", generator=generator) for _ in range(2))
    assert not (first == second).any()
    assert torch.equal(first, init(8, "normal", generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_seed_leaves_generators_alone():
    state, generator = torch.get_rng_state(), torch.Generator()
    before = generator.get_state()
    init(8, "normal", seed=1, generator=generator)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (3, 0, 2)])
def test_an_empty_part_takes_its_draw_like_those_of_other_ranks(shape):
    torch.manual_seed(3)
    init_(torch.empty(2, 2), "normal")
    after = torch.rand(1)
    torch.manual_seed(3)
    init_(torch.empty(shape), "he_normal")
    assert torch.equal(torch.rand(1), after)


def layers():
    return torch.nn.Sequential(*(torch.nn.Linear(31, 31) for _ in range(4)))


def test_layers_that_repeat_each_other_for_want_of_names_are_warned_of_once():
    def initialize(layer):
        if isinstance(layer, torch.nn.Linear):
            init_(layer.weight, "he_normal", seed=19)

    model = layers()
    with pytest.warns(winit_fast.RepeatedValuesWarning, match="give each parameter its name") as caught:
        model.apply(initialize)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.apply(initialize)


@pytest.mark.usefixtures("tiny_staging")
def test_layers_on_other_devices_are_warned_of_by_where_they_stand_themselves():
    model = layers()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # the same again
            through_host(model[0].weight.data, "he_normal", seed=20)
    with pytest.warns(winit_fast.RepeatedValuesWarning):
        through_host(model[1].weight.data, "he_normal", seed=20)


def test_nothing_is_warned_of_where_names_seeds_or_schemes_keep_layers_apart():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, layer in enumerate(layers()):
            init_(layer.weight, "he_normal", seed=21, name=0)  # on purpose
            init_(layer.weight, "he_normal", seed=22, name=f"layers.{number}")
            init_(layer.weight, "he_normal")
            init_(layer.weight, "zeros", seed=23)
        for axis in range(2):
            init_(torch.empty(31, 31), "normal", seed=24 + axis)
        parts = [torch.empty(31, 31) for _ in range(3)]
        for number, part in enumerate(parts):
            init_(part, "normal", seed=26, shape=(93, 31), offset=(31 * number, 0))


# No-ops


@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", "sparse(0.5)", "eye", "truncated_normal", "ones"])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_a_tensor_without_elements_is_left_as_it_is(scheme, shape):
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.nn.Parameter(torch.empty(shape, dtype=dtype))
        assert init_(tensor, scheme, seed=1) is tensor


def test_an_empty_tensor_stands_at_an_address_that_every_numpy_takes():  # before 2.4 none takes 0
    assert torch.empty(0, 5).data_ptr() == 0
    array = array_of(torch.empty(0, 5, dtype=torch.bfloat16))
    assert (array.shape, array.dtype.name) == ((0, 5), "bfloat16")
    assert array.__array_interface__["data"][0] != 0


def test_a_part_without_elements_is_checked_all_the_same():
    init_(torch.empty(0, 5), "he_normal", seed=1, shape=(20, 5), offset=(20, 0))
    with pytest.raises(ValueError, match="he_nrmal"):
        init_(torch.empty(0, 5), "he_nrmal", seed=1)
    with pytest.raises(ValueError, match="within shape"):
        init_(torch.empty(0, 5), "he_normal", seed=1, shape=(20, 5), offset=(21, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_meta_tensors_are_left_as_they_are_and_nothing_is_drawn(dtype):
    state = torch.get_rng_state()
    for tensor in (torch.empty(4, 4, dtype=dtype, device="meta"), torch.empty(4, device="meta").expand(4, 4)):
        assert init_(tensor, "he_normal") is tensor
    with torch.device("meta"):
        layer = torch.nn.Linear(4, 4)
        init_(layer.weight, "he_normal")
    assert torch.equal(torch.get_rng_state(), state)


def test_fake_tensors_are_left_as_they_are():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        layer = torch.nn.Linear(4, 4)
        assert init_(layer.weight, "he_normal") is layer.weight
        init((3, 3), "normal")
    assert init_(layer.weight, "he_normal", seed=1) is layer.weight


def test_the_default_device_has_no_say_in_the_seed():
    torch.manual_seed(3)
    expected = init(8, "normal")
    torch.manual_seed(3)
    weight = torch.empty(8)
    with torch.device("meta"):
        init_(weight, "normal")
    assert torch.equal(weight, expected)


# Refusals


def refused():
    """What cannot be filled, with the error and its words."""
    dense = torch.full((4, 4), 9.0)
    numbers = torch.full((4, 4), 9.0 + 9.0j)
    return {
        "expanded": (torch.full((4,), 9.0).expand(4, 4), ValueError, r"tensor must not overlap .* strides \(0, 1\)"),
        "windows": (torch.full((9,), 9.0).unfold(0, 4, 2), ValueError, r"tensor must not overlap .* strides \(2, 1\)"),
        "sparse": (dense.to_sparse(), TypeError, "tensor must be dense, got one of layout torch.sparse_coo"),
        "csr": (dense.to_sparse_csr(), TypeError, "tensor must be dense, got one of layout torch.sparse_csr"),
        "quantized": (
            torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
            TypeError,
            "tensor must be of dtype .*, got torch.qint8",
        ),
        "integer": (torch.full((4, 4), 9), TypeError, "tensor must be of dtype torch.float32, .*, got torch.int64"),
        "float8 of another kind": (
            dense.to(torch.float8_e4m3fnuz),
            TypeError,
            "tensor must be of dtype .*, got torch.float8_e4m3fnuz",
        ),
        "conjugate": (numbers.conj(), ValueError, "tensor must hold its values as they are, got a conjugate view"),
        "negative": (numbers.conj().imag, ValueError, "tensor must hold its values as they are, got a negative view"),
    }


@pytest.mark.parametrize("kind", refused())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_filled_is_refused_before_anything_is_written(kind):
    tensor, error, words = refused()[kind]
    before = tensor.clone()
    with pytest.raises(error, match=words):
        init_(tensor, "constant(0.5)", seed=0)
    assert str(tensor) == str(before)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "seed", {"seed": -1}),
        (ValueError, "seed", {"seed": 2**64}),
        (TypeError, "seed", {"seed": 1.5}),
        (TypeError, "name", {"name": None}),
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "scheme", {"scheme": None}),
        (ValueError, "in_axis", {"in_axis": 7}),
        (TypeError, "batch_axis", {"batch_axis": 0.5}),
        (ValueError, "batch_axis", {"batch_axis": 5}),
        (ValueError, "padding_idx", {"padding_idx": 4}),
        (ValueError, "threads", {"threads": 0}),
        (ValueError, "offset", {"offset": (0, 0)}),
        (TypeError, "shape", {"shape": 4}),
        (ValueError, "shape", {"shape": (3, 4)}),
    ],
)
def test_bad_arguments_raise_before_a_byte_is_written(error, match, arguments):
    tensor = torch.full((4, 4), 9.0)
    with pytest.raises(error, match=match):
        init_(tensor, **({"scheme": "he_normal", "seed": 0} | arguments))
    assert bool((tensor == 9).all())
    assert tensor._version == 0


@pytest.mark.parametrize(
    "name",
    [
        "normal_",
        "uniform_",
        "trunc_normal_",
        "eye_",
        "kaiming_normal_",
        "zeros_",
        "init_",
        "constant_",
        "dirac_",
        "sparse_",
        "orthogonal_",
        "xavier_normal_",
        "ones_",
    ],
)
def test_what_is_no_tensor_is_refused_and_who_takes_it_is_said(name):
    more = {"init_": ("normal",), "constant_": (1,), "sparse_": (0.5,)}.get(name, ())
    for other, words in (
        (np.empty((3, 3)), r"got ndarray: winit_fast\.fill and adapters\.init_ fill arrays"),
        (torch.nn.Linear(3, 3), "got Linear: init_module_ initializes modules"),
        ([1.0], "got list$"),
    ):
        with pytest.raises(TypeError, match=f"tensor must be a torch.Tensor, {words}"):
            getattr(adapters.torch, name)(other, *more)


def test_modules_given_to_the_init_of_all_frameworks_are_told_what_takes_them():
    with pytest.raises(TypeError, match="got Linear: init_module_ initializes modules"):
        adapters.init_(torch.nn.Linear(3, 3), "normal")


def test_a_tensor_without_a_shape_yet_is_refused():
    with pytest.raises(ValueError, match="tensor must have a shape, got UninitializedParameter"):
        init_(torch.nn.LazyLinear(3).weight, "normal", seed=0)


def test_dtypes_may_be_given_by_name():
    assert init((2, 3), "normal", dtype="bfloat16").dtype is torch.bfloat16
    assert init((2, 3), "normal", dtype="torch.float8_e5m2").dtype is torch.float8_e5m2
    for wrong, words in (
        ("bf16", "did you mean 'bfloat16'"),
        ("flaot32", "did you mean 'float32'"),
        ("nn", "got 'nn'"),
    ):
        with pytest.raises(ValueError, match=f"dtype must be a torch.dtype or the name of one, .*{words}"):
            init((2, 3), "normal", dtype=wrong)
    with pytest.raises(
        TypeError, match=r"dtype must be a torch.dtype or the name of one, .*got <class 'numpy.float32'>"
    ):
        init((2, 3), "normal", dtype=np.float32)


def test_dir_shows_the_public_names_alone():
    shown = dir(adapters.torch)
    assert not [name for name in shown if name.startswith("_")]
    assert {"init_", "init", "init_module_", "kaiming_normal_", "accelerate"} <= set(shown)
    assert not {"tensors", "functions", "needs"} & set(shown)


@pytest.mark.parametrize("scheme", ["zeros", "ones", "constant(0.5)", "identity", "uniform(0.5, 0.5)", "normal(1, 0)"])
def test_schemes_that_draw_nothing_take_no_draw(scheme):
    generator = torch.Generator().manual_seed(3)
    states = torch.get_rng_state(), generator.get_state()
    init((3, 3), scheme)
    init_(torch.empty(0, 3), scheme)
    adapters.init_(torch.empty(3, 3), scheme)
    init((3, 3), scheme, generator=generator)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])


# Everything at once


def test_subclasses_of_tensor_and_buffers_are_filled_as_tensors_are():
    class Mine(torch.Tensor):
        pass

    mine = torch.empty(5, 4).as_subclass(Mine)
    assert init_(mine, "he_normal", seed=7) is mine
    assert is_same(mine.as_subclass(torch.Tensor), filled((5, 4), "he_normal"))


def test_many_threads_fill_at_once_and_each_gets_its_own():
    results = {}

    def work(number):
        results[number] = [init((200, 100), "normal", seed=number, name=name) for name in range(5)]

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(
        is_same(tensor, filled((200, 100), "normal", seed=number, name=name))
        for number in range(8)
        for name, tensor in enumerate(results[number])
    )


class Drawn(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return init((400, 300), "normal", seed=index, threads=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_workers_forked_after_a_fill_fill_as_well():
    init((400, 300), "normal", seed=0, threads=2)
    loader = torch.utils.data.DataLoader(Drawn(), batch_size=None, num_workers=2, multiprocessing_context="fork")
    for index, tensor in enumerate(loader):
        assert is_same(tensor, filled((400, 300), "normal", seed=index))


def test_functions_compiled_by_torch_leave_their_graph_for_it():
    def filled_and_doubled(weight, other, name):
        doubled = other * 2
        init_(weight, "he_normal", seed=7, name=name)
        adapters.torch.xavier_normal_(other)
        return doubled, weight * 2

    compiled = torch.compile(filled_and_doubled, backend="eager")
    for name in ("first", "second", 3):
        weight, other = torch.nn.Parameter(torch.empty(6, 5)), torch.ones(6, 5)
        torch.manual_seed(0)
        doubled, twice = compiled(weight, other, name)
        expected = filled((6, 5), "he_normal", name=name)
        assert is_same(weight, expected)
        assert is_same(twice, expected * 2)
        assert bool((doubled == 2).all())
        torch.manual_seed(0)
        assert torch.equal(other, init((6, 5), "xavier_normal"))


def test_a_graph_that_may_not_be_left_is_a_clear_error():
    compiled = torch.compile(lambda weight: init_(weight, "he_normal", seed=7), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="init_ cannot be part of an exported or full graph"):
        compiled(torch.empty(3, 3))


def test_the_adapter_loads_neither_the_compiler_nor_distributed_tensors():
    code = """
import sys, torch
before = set(sys.modules)
from winit_fast import adapters
adapters.torch.kaiming_normal_(torch.empty(3, 3))
print(sorted({"torch._dynamo", "torch.distributed.tensor"} & (set(sys.modules) - before)))
"""
    assert printed(code) == "[]\n"


# Other devices: their way through the host's memory, walked here


@pytest.mark.usefixtures("tiny_staging")
@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(7, 9), (3, 50), (40,), (2, 3, 4, 5), (), (0, 4), (5, 0)])
def test_pieces_through_the_host_are_the_whole(dtype, shape):
    scheme = "constant(0.5)" if "complex" in dtype else "normal"
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    through_host(tensor, scheme)
    assert is_same(tensor, filled(shape, scheme, dtype))


@pytest.mark.usefixtures("tiny_staging")
@pytest.mark.parametrize("scheme", ["he_normal", "xavier_uniform", "dirac", *CONNECTED])
def test_strided_parts_go_through_the_host_too(scheme):
    shape = (12, 24) if scheme == "sparse(0.5)" else (12, 8, 3)
    whole = torch.from_numpy(filled(shape, scheme))
    memory = torch.full((9, 40, *shape[2:]), 9.0)
    part = memory[1::2, 3:38:7]  # 4 by 5
    through_host(part, scheme, shape=shape, offset=(6, 2, 0)[: len(shape)], padding_idx=7)
    expected = whole[6:10, 2:7].clone()
    expected[1] = 0
    assert torch.equal(part, expected)
    part.fill_(9)
    assert bool((memory == 9).all())


@pytest.mark.usefixtures("tiny_staging")
@pytest.mark.parametrize(
    ("scheme", "shape", "times"),
    [("normal", (8, 8), 4), ("he_normal", (8, 3, 3), 8), *((scheme, (8, 8), 1) for scheme in CONNECTED),
     ("delta_orthogonal", (8, 8, 3), 1), ("convolution_orthogonal", (8, 8, 3), 1)],
)  # fmt: skip
def test_what_hangs_together_is_computed_once_for_all_pieces(monkeypatch, scheme, shape, times):
    calls = []
    plain_fill = plain.Initializer.fill
    monkeypatch.setattr(
        plain.Initializer, "fill", lambda self, out, **k: calls.append(out.size) or plain_fill(self, out, **k)
    )
    tensor = torch.empty(shape)
    through_host(tensor, scheme)
    assert len(calls) == times
    assert sum(calls) == tensor.numel()
    assert is_same(tensor, filled(shape, scheme))


@pytest.mark.usefixtures("tiny_staging")
def test_a_part_that_does_not_fit_is_refused_before_a_piece_is_written():
    for region, words in (
        ({"shape": (20, 5), "offset": (15, 0)}, r"out must lie within shape, got \(12, 5\) from offset \(15, 0\)"),
        ({"shape": (20, 5), "offset": (0,)}, "must have as many axes as each other, got 2, 2 and 1"),
        ({"offset": (0, 0)}, r"shape must be given with offset, got offset=\(0, 0\) alone"),
    ):
        tensor = torch.full((12, 5), 9.0)
        with pytest.raises(ValueError, match=words):
            through_host(tensor, "normal", **region)
        assert bool((tensor == 9).all())


@pytest.mark.usefixtures("tiny_staging")
def test_pieces_are_in_the_memory_of_the_host_whatever_the_default_device_is():
    tensor = torch.empty(12, 5)
    with torch.device("meta"):
        through_host(tensor, "normal")
    assert is_same(tensor, filled((12, 5), "normal"))


# What a tensor may still do afterwards, and what must not have happened where it is refused


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_storage_can_be_resized_afterwards(dtype):
    tensor = init_(torch.empty(4, 4, dtype=getattr(torch, dtype)), "normal", seed=7)
    tensor.untyped_storage().resize_(0)
    tensor.untyped_storage().resize_(64 * tensor.element_size())
    tensor.resize_(8, 8)


def test_what_is_refused_draws_nothing():
    for refused in (
        lambda: init_(torch.empty(3), "he_normal"),
        lambda: init_(torch.empty(3, dtype=torch.int64), "normal"),
        lambda: init_(torch.empty(1).expand(3), "normal"),
        lambda: init_(torch.empty(3), "normal", name=-1),
        lambda: init_(torch.empty(3), "normal", threads=0),
        lambda: init_(torch.empty(3), "normal", shape=(2,)),
    ):
        before = torch.get_rng_state()
        with pytest.raises((TypeError, ValueError)):
            refused()
        assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator or None, got 5"):
        init_(torch.empty(3), "normal", generator=5)


def test_transforms_and_exported_graphs_are_refused():
    with pytest.raises(TypeError, match=r"tensor must not be filled inside of a transform of torch\.func"):
        torch.func.functionalize(lambda x: init_(x.clone(), "normal", seed=7))(torch.zeros(3))
    with pytest.raises(TypeError, match=r"tensor must not be filled inside of a transform of torch\.func"):
        torch.func.vmap(lambda x: init_(x.clone(), "normal", seed=7))(torch.zeros(2, 3))

    class Filling(torch.nn.Module):
        def forward(self, x):
            return x + init_(torch.empty(3), "normal", seed=7)

    for strict in (False, True):
        with pytest.raises(Exception, match="init_ cannot be part of an exported or full graph"):
            torch.export.export(Filling(), (torch.zeros(3),), strict=strict)
