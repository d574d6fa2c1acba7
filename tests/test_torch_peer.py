"""Every function of torch.nn.init against the installed torch's: types, shapes and arguments, whole by ``-m sweep``.

What each of the two does is one of three: it raises, it leaves a tensor without elements as it is, or it fills. Both
must do the same, with the same warnings; where both fill, mean, spread, share of zeros and bounds must agree. `DIFFERS`
lists what differs on purpose, each with its reason; nothing else may differ, and each of them must be met.
"""

import math
import warnings
from collections import Counter

import pytest

torch = pytest.importorskip("torch")
from winit_fast.adapters import torch as ours  # noqa: E402

pytestmark = pytest.mark.frameworks

theirs = torch.nn.init
nan, inf = math.nan, math.inf

ARGUMENTS = {
    "uniform_": [
        (), (-0.1, 0.2), (1, 0), (0.5, 0.5), (0, nan), (0, inf), (-inf, 0), (-3e38, 3e38), (0, 1e39), (0, 70000.0),
        (-1e-50, 1e-50), (0.3, 0.7), (1.0001, 1.0002), (True, 2), ("a",), (None,),
    ],
    "normal_": [
        (), (1.0, 0.02), (0, 0), (0, -1), (nan, 1), (0, nan), (0, inf), (inf, 1), (0, 1e38), (0, 1e-30), (1e5, 1.0),
        (0, 2e4), ("a",),
    ],
    "trunc_normal_": [
        (), (0, 0.02), (0.3, 0.5, 0.0, 0.4), (0, 1, 3, 4), (0, 1, 2, 1), (0, 0), (0.5, 0), (0, -1), (0, 1, 0.3, 0.3),
        (0, 1, nan, 1), (0, 1, -inf, inf), (0, 1, -inf, 0.5), (0, 1, 40, 41), (nan, 1), (1, 2, 0, 3),
    ],
    "constant_": [(0.3,), (1,), (True,), (nan,), (inf,), (1e39,), (70000.0,), (-1,), (1 + 2j,), ("a",), (None,), ()],
    "ones_": [()],
    "zeros_": [()],
    "eye_": [()],
    "dirac_": [(), (2,), (3,), (0,), (-1,), (1.0,), ("a",)],
    "xavier_uniform_": [(), (2.5,), (0.0,), (-1.0,), (nan,), (inf,), (1e39,)],
    "xavier_normal_": [(), (2.5,), (0.0,), (-1.0,), (nan,), (inf,), (1e39,)],
    "kaiming_uniform_": [
        (), (math.sqrt(5),), (0, "fan_out"), (0, "FAN_OUT", "relu"), (0, "fan_avg"), (0, "fan_in", "nope"), (True,),
        (-1,), (nan,), (inf,), (0, "fan_in", "selu"), (0.0, "fan_in", "tanh"), (0, "fan_in", "linear"),
        (0, "fan_in", "conv_transpose2d"), (0, "fan_in", "sigmoid"), ("a",), (0, None),
    ],
    "kaiming_normal_": [
        (), (math.sqrt(5),), (0, "fan_out"), (0, "FAN_OUT", "relu"), (0, "fan_avg"), (0, "fan_in", "nope"), (True,),
        (nan,), (inf,), (0, "fan_in", "selu"), (0, "fan_out", "linear"), ("a",),
    ],
    "orthogonal_": [(), (2.5,), (0,), (-1.0,), (nan,), (inf,)],
    "sparse_": [(0.5,), (0.0,), (1.0,), (0.3, 0.5), (1.5,), (-0.1,), (0.5, 0.0), (0.5, -1.0), (nan,), ()],
}  # fmt: skip
DTYPES = [
    "float32", "float64", "float16", "bfloat16", "complex64", "complex128", "int64", "uint8", "bool",
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
]  # fmt: skip
# Four of some thousand elements, enough to tell moments; of every rank; with and without elements.
SHAPES = [
    (), (0,), (7,), (3000,), (0, 4), (4, 0), (0, 0), (1, 1), (60, 50), (50, 60), (6, 0, 3), (30, 10, 9), (12, 6, 7, 5),
    (6, 4, 3, 3, 3), (2, 2, 2, 2, 2, 2),
]  # fmt: skip
LAYOUTS = ["contiguous", "transposed"]
SAMPLE = {
    "dtypes": ["float32", "bfloat16", "complex64", "int64"],
    "shapes": [(7,), (0, 4), (40, 30), (20, 10, 9)],
    "layouts": ["contiguous"],
}
WHOLE = {"dtypes": DTYPES, "shapes": SHAPES, "layouts": LAYOUTS}

FLOATS = ("float32", "float64", "float16", "bfloat16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
OTHERS = ("int64", "uint8", "bool", "float8_e4m3fnuz")
CONSTANTS = ("constant_", "ones_", "zeros_", "eye_", "dirac_")


def numbers(arguments):
    return [number for number in arguments if isinstance(number, int | float)]


HALVES = ("float16", "bfloat16")
COMPLEX = ("complex64", "complex128")
ANYTHING = ("fills", "nothing")

# What differs on purpose: torch's outcomes, ours, and where: by the function's name, type, shape and arguments.
DIFFERS = {
    "float8 is filled, of which torch draws nothing": (
        ("raises",), ANYTHING, lambda name, dtype, shape, args: dtype in FLOAT8 and name not in CONSTANTS,
    ),
    "half types are filled with orthogonal matrices": (
        ("raises",), ("fills",), lambda name, dtype, shape, args: name == "orthogonal_" and dtype in HALVES,
    ),
    "orthogonal kernels are filled in memory of any order": (
        ("raises",), ("fills",), lambda name, dtype, shape, args: name == "orthogonal_" and len(shape) > 2,
    ),
    "an orthogonal matrix times 0 has a complex form": (
        ("raises",), ("fills",), lambda name, dtype, shape, args: name == "orthogonal_" and args == (0,),
    ),
    "a truncated normal without spread is its mean": (
        ("raises",), ANYTHING, lambda name, dtype, shape, args: name == "trunc_normal_" and args[1:2] == (0,),
    ),
    "a truncated normal of all numbers, or between equal bounds, has a complex form": (
        ("raises",), ANYTHING,
        lambda name, dtype, shape, args: name == "trunc_normal_" and args[2:] in [(0.3, 0.3), (-inf, inf)],
    ),
    "xavier takes a tensor without elements whose fans are both 0": (
        ("raises",), ("nothing",), lambda name, dtype, shape, args: "xavier" in name and shape == (0, 0),
    ),
    "a complex uniform may be as wide as its type, torch's half as wide": (
        ("raises",), ANYTHING, lambda name, dtype, shape, args: name == "xavier_uniform_" and args == (1e39,),
    ),
    "what is no finite number is refused": (
        ANYTHING, ("raises",), lambda name, dtype, shape, args: not all(map(math.isfinite, numbers(args))),
    ),
    "what reaches beyond the type's largest number is refused": (
        ANYTHING, ("raises",), lambda name, dtype, shape, args: max(map(abs, numbers(args)), default=0) >= 2e4,
    ),
    "a negative spread, gain, count of groups or share is refused": (
        ANYTHING, ("raises",), lambda name, dtype, shape, args: min(numbers(args), default=0) < 0,
    ),
    "a share of zeros above 1 is refused": (
        ANYTHING, ("raises",), lambda name, dtype, shape, args: name == "sparse_" and args == (1.5,),
    ),
    "bounds that leave only what is more than 37 standard deviations away are refused": (
        ANYTHING, ("raises",), lambda name, dtype, shape, args: name == "trunc_normal_" and args[2:] == (40, 41),
    ),
    "a type that is not drawn is refused without elements too": (
        ("nothing",), ("raises",),
        lambda name, dtype, shape, args: dtype in OTHERS or (name == "orthogonal_" and dtype in COMPLEX),
    ),
}  # fmt: skip


def outcome(function, shape, dtype, layout, arguments):
    """What a function does: its kind, the tensor, and the warnings."""
    memory = torch.ones(shape if layout == "contiguous" else shape[::-1]).to(getattr(torch, dtype))
    tensor = memory if layout == "contiguous" else memory.permute(*reversed(range(len(shape))))
    torch.manual_seed(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            assert function(tensor, *arguments) is tensor
        except Exception:
            return "raises", None, []
    assert tensor.shape == shape
    words = sorted((warning.category.__name__, str(warning.message)[:60]) for warning in caught)
    return ("fills" if tensor.numel() else "nothing"), tensor, words


def differ(way, name, dtype, mine, other):
    """What is not alike in two tensors of the same distribution, in words."""
    one, two = (torch.view_as_real(tensor.to(torch.complex128)) for tensor in (mine, other))
    if name in CONSTANTS:
        return [] if torch.equal(one.nan_to_num(nan=7.5), two.nan_to_num(nan=7.5)) else ["values"]
    found = []
    if bool((one.isfinite() != two.isfinite()).any()):
        found.append("finite numbers")
    size = mine.numel()
    if name == "sparse_" and int((mine == 0).sum()) != int((other == 0).sum()):
        found.append("zeros")
    spread = two.std(dim=tuple(range(mine.dim())), correction=0) if size > 1 else two.abs().reshape(-1, 2)[0]
    # Complex uniforms of torch fill a square, sqrt(2) times as wide as the std says; accelerate leaves them to it.
    is_disk = dtype in COMPLEX and name in ("xavier_uniform_", "kaiming_uniform_") and way is in_place_of_torchs
    wide = 2**0.5 if is_disk else 1.0
    if size < 1000:
        reach = 12 * spread.max() + two.abs().max() * (20 if size < 60 else 3)
        return found + (["size"] if bool((one.abs() > reach + 1e-30).any()) else [])
    axes = tuple(range(mine.dim()))
    for part in range(2 if "complex" in dtype else 1):
        means = [values.mean(dim=axes)[part] for values in (one, two)]
        stds = [values.std(dim=axes, correction=0)[part] for values in (one, two)]
        rounding = torch.finfo(mine.dtype).eps * two.abs().max()
        if abs(means[0] - means[1]) > 7 * stds[1] * (2 / size) ** 0.5 + rounding:
            found.append(f"mean {means[0]:.3g}, {means[1]:.3g}")
        if abs(stds[0] * wide - stds[1]) > 7 * stds[1] * size**-0.5 + rounding:
            found.append(f"std {stds[0] * wide:.3g}, {stds[1]:.3g}")
    if "uniform" in name and "complex" not in dtype:
        ends = [(values[..., 0].min(), values[..., 0].max()) for values in (one, two)]
        slack = 12 * (ends[1][1] - ends[1][0]) / size + 2 * rounding
        if any(abs(a - b) > slack for a, b in zip(*ends, strict=True)):
            found.append(f"ends {ends}")
    return found


def outcomes(module, name, dtypes, shapes, layouts):
    """What one function does with every argument, type, shape and layout."""
    return {
        (arguments, dtype, shape, layout): outcome(getattr(module, name), shape, dtype, layout, arguments)
        for arguments in ARGUMENTS[name]
        for dtype in dtypes
        for shape in shapes
        for layout in (layouts if len(shape) > 1 else layouts[:1])
    }


def in_place_of_torchs(name, **cases):
    return outcomes(ours, name, **cases)


def under_accelerate(name, **cases):
    with ours.accelerate(seed=1):
        return outcomes(theirs, name, **cases)


WAYS = [in_place_of_torchs, under_accelerate]


def compared(way, name, **cases):
    """What is wrong, and how often which reason to differ was met."""
    found, met = [], Counter()
    expected, got = outcomes(theirs, name, **cases), way(name, **cases)
    for key, (kind, other, words) in expected.items():
        (arguments, dtype, shape, layout), (mine_kind, mine, mine_words) = key, got[key]
        what = None
        if kind != mine_kind:
            reason = next((reason for reason, (befores, afters, applies) in DIFFERS.items() if kind in befores
                           and mine_kind in afters and applies(name, dtype, shape, arguments)), None)  # fmt: skip
            met[reason] += 1
            what = None if reason else f"{kind} in torch, {mine_kind} here"
        elif words != mine_words:
            what = f"torch warns {words}, we {mine_words}"
        elif kind == "fills":
            met["is alike"] += 1
            what = differ(way, name, dtype, mine, other)
        if what:
            found.append(f"{name}{arguments} of {dtype} {shape} {layout}: {what}")
    return found, met


def test_the_sweep_covers_every_function_of_torch():
    public = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert public == set(ARGUMENTS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_sample_of_types_shapes_and_arguments_does_what_torch_does(way, name):
    found, _ = compared(way, name, **SAMPLE)
    assert found == []


@pytest.mark.sweep
@pytest.mark.parametrize("way", WAYS)
def test_every_type_shape_layout_and_argument_does_what_torch_does(way):
    met = Counter()
    for name in ARGUMENTS:
        found, reasons = compared(way, name, **WHOLE)
        assert found == []
        met += reasons
    print(way.__name__, *(f"\n{count:6} {reason}" for reason, count in met.most_common()))
    if way is in_place_of_torchs:
        assert set(DIFFERS) - set(met) == set()
    else:  # what is refused there is torch's
        assert not any(reason.endswith(("refused", "refused without elements too")) for reason in met)
