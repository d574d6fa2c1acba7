"""STREAM.md in plain NumPy: every value of the stream, written a second time from that page alone.

Nothing here comes from the kernels, coefficients are typed in once more, and probabilities are mpmath's. Sections are
those of STREAM.md. Speed is no aim: an element is computed from its index, in arrays, one operation after another, and
sums are loops in their order.
"""

import ast
import math
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import ml_dtypes
import mpmath
import numpy as np

F32, F64, U32, U64 = np.float32, np.float64, np.uint32, np.uint64


def values(scheme, dtype, *, seed, name=0, shape, index, in_axis=-2, out_axis=-1, batch_axis=(), matrices=None):
    """The elements of a tensor at some places.

    `scheme` is a text such as ``"normal(std=0.02)"`` or a distribution, say ``("normal", 0.0, 0.02)``; `shape` is the
    global one and `index` holds row-major indices in it, in any order. `matrices` is a count and an axis. Returns an
    array like `index`.
    """
    dtype, index = np.dtype(dtype), np.asarray(index, U64)
    is_complex = dtype.kind == "c"
    layout = layout_of(shape, in_axis, out_axis, batch_axis)
    if matrices is not None:
        layout = split(layout, *matrices)
    law = scheme if isinstance(scheme, tuple) else distribution(scheme, layout, is_complex)
    working = F64 if dtype in (np.dtype(F64), np.dtype(np.complex128)) else F32
    # Subnormal results lose bits by right; anything that overflows or is not a number must not go by unseen.
    with np.errstate(over="raise", divide="raise", invalid="raise", under="ignore"):
        refuse(is_complex and law[0] != "constant" and not law[0].startswith("complex"), "no complex form")
        refuse_what_reaches_too_far(law, working, dtype)
        if law[0] in STRUCTURES:
            result = STRUCTURES[law[0]](*law[1:], layout, working, seed, stream_of(name), index.ravel())
        else:
            result = drawn(law, working, seed, stream_of(name), index.ravel(), dtype)
        drawn_complex = is_complex and law[0] != "constant"
        assert result.dtype == (dtype if drawn_complex else working), "an operation left the working type"
        return result.astype(dtype).reshape(index.shape)  # section 6; the rounding itself is tested in test_kernels.py


def drawn(law, working, seed, stream, index, dtype=None):
    """The elements of a distribution, each of which depends on its index alone."""
    constants = lower(law, working)
    if law[0] == "uniform" and law[3:] == ("below_high",):
        constants = constants._replace(maximum=working(number_below(*map(Fraction, law[1:3]), dtype)))
    for least, most in ((constants.low, constants.maximum), (constants.minimum, constants.maximum)):
        refuse(None not in (least, most) and least > most, "no value within its bounds")
    if law[0] == "constant":
        return np.full(index.shape, constants.value)
    return TRANSFORMS[law[0], working](constants, seed, stream, index)


# 1. Words


def words(seed, stream, index):
    """Words of Philox4x32-10 at these indices: an array of uint64, or of Python integers below 2^66."""
    index = np.asarray(index)
    return words_of_blocks(seed, stream, (index >> 2).astype(U64), (index & 3).astype(np.intp))


def words_of_blocks(seed, stream, block, place):
    """The words at these places, 0 to 3, of these blocks."""
    low = U64(0xFFFFFFFF)
    counter = [block & low, block >> U64(32), U64(stream) & low, U64(stream) >> U64(32)]
    key = [seed % 2**32, seed // 2**32]
    for _ in range(10):
        first, second = U64(0xD2511F53) * counter[0], U64(0xCD9E8D57) * counter[2]
        counter = [
            (second >> U64(32)) ^ counter[1] ^ U64(key[0]),
            second & low,
            (first >> U64(32)) ^ counter[3] ^ U64(key[1]),
            first & low,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return np.choose(place, counter).astype(U32)


def auxiliary_words(seed, stream, first, place):
    """Auxiliary words 32 `first` + `place`."""
    block = U64(2**63) + first * U64(8) + (place >> U64(2))
    return words_of_blocks(seed, stream, block, (place & U64(3)).astype(np.intp))


# 2. Seed, name, element


def stream_of(name):
    """The stream of a name."""
    if isinstance(name, str):
        return int.from_bytes(blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")
    return name


def rows_of_words(seed, stream, group, k):
    """even[k] and odd[k] of these groups."""
    block, place = group * U64(8) + k // U64(2), (k % U64(2) * U64(2)).astype(np.intp)
    return words_of_blocks(seed, stream, block, place), words_of_blocks(seed, stream, block, place + 1)


def own_word(seed, stream, index):
    """float32: the one word of each element."""
    group, place = index // 32, index % 32
    even, odd = rows_of_words(seed, stream, group, place % 16)
    return np.where(place < 16, even, odd)


def own_words(seed, stream, index):
    """float64: the two words of each element."""
    return rows_of_words(seed, stream, index // 16, index % 16)


def pair(index, size=32, first_group=0):
    """Group and k of the pair each element belongs to, and whether it is the first of the two."""
    group, place = index // size + U64(first_group), index % size
    return group, place % (size // 2), place < size // 2


AUXILIARY_GROUPS = 2**60


# Shape and axes


class Layout(NamedTuple):
    """A global shape and its axes, each role's in the order in which they stand in the tensor."""

    shape: tuple
    ins: tuple
    outs: tuple
    batch: tuple

    def others(self, *taken):
        """The axes that are none of these."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in sum(taken, ()))

    def size(self, axes):
        """How many indices there are along these axes."""
        return math.prod(self.shape[axis] for axis in axes)

    def coordinates(self, index):
        """Along every axis, the place of these elements."""
        places = []
        for size in reversed(self.shape):
            places.insert(0, index % U64(size))
            index = index // U64(size)
        return places

    def along(self, axes, index):
        """The row-major index along these axes alone."""
        places, joint = self.coordinates(index), np.zeros_like(index)
        for axis in axes:
            joint = joint * U64(self.shape[axis]) + places[axis]
        return joint


def layout_of(shape, in_axis, out_axis, batch_axis):
    def axes(given):
        return tuple(sorted({axis % len(shape) for axis in ([given] if isinstance(given, int) else given)}))

    return Layout(tuple(shape), axes(in_axis), axes(out_axis), axes(batch_axis))


# 3. From arguments to constants


# Numbers of winit_fast/gains.py.
GAINS = {
    **dict.fromkeys(["linear", "conv", "conv1d", "conv2d", "conv3d", "sigmoid"], 1.0),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], 1.0),
    "tanh": 5 / 3,
    "relu": 1.4142135623730951,
    "leaky_relu": 1.4141428569978354,
    "selu": 3 / 4,
    "prelu": 1.3719886811400708,
    "relu6": 1.4142135650950736,
    "elu": 1.2451983007007066,
    "gelu": 1.5335304411955353,
    "gelu_tanh": 1.533580521666147,
    "silu": 1.676532470331091,
    "swish": 1.676532470331091,
    "hard_swish": 1.7366572127665416,
    "mish": 1.486847581273208,
    "softplus": 1.0418668355353018,
    "softsign": 2.3375333631085398,
}


def split(layout, count, axis):
    """The layout with an axis of matrices in front of one of which they are `count` parts."""

    def moved(axes):
        return tuple(place + (place >= axis) for place in axes)

    shape = (*layout.shape[:axis], count, layout.shape[axis] // count, *layout.shape[axis + 1 :])
    return Layout(shape, moved(layout.ins), moved(layout.outs), (*moved(layout.batch), axis))


def distribution(text, layout, is_complex=False):
    """The distribution that a scheme's text names, or the structure of sections 8 to 10, with its numbers."""
    shape, ins, outs, batch = layout

    def fan(mode):
        fan_in, fan_out = float(layout.size(layout.others(outs, batch))), float(layout.size(layout.others(ins, batch)))
        choices = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        return max(1.0, math.sqrt(fan_in * fan_out) if mode == "fan_geo_avg" else choices[mode])

    def uniform(low=0.0, high=1.0, rounding="nearest"):
        refuse(low > high, "low > high")
        return ("uniform", low, high, rounding) if low < high else ("constant", low)

    def normal(mean=0.0, std=1.0):
        if is_complex and mean == 0 < std:
            return ("complex_normal", std)
        refuse(std < 0, "std < 0")
        return ("normal", mean, std) if std > 0 else ("constant", mean)

    def truncated_normal(mean=0.0, std=1.0, low=-2.0, high=2.0):
        refuse(low > high or low > 37 or high < -37, "bounds")
        if std <= 0 or -low == high == math.inf:
            return normal(mean, std)
        refuse(low == high and math.isinf(mean + std * low), "no float64")
        return ("truncated_normal", mean, std, low, high) if low < high else ("constant", mean + std * low)

    def around_zero(kind, std_of, mode):
        widest, std = std_of(1.0), std_of(fan(mode))
        spread = {"uniform": math.sqrt(3.0) * widest, "truncated_normal": widest / 0.87962566103423978}
        refuse(widest < 0 or math.isinf(spread.get(kind, widest)), "std beyond float64, or below 0")
        if std == 0:
            return ("constant", 0.0)
        if is_complex:
            return (f"complex_{kind}", std / 0.9619618280082135 if kind == "truncated_normal" else std)
        if kind == "uniform":
            return uniform(-(math.sqrt(3.0) * std), math.sqrt(3.0) * std)
        if kind == "truncated_normal":
            return truncated_normal(0.0, std / 0.87962566103423978)
        return normal(0.0, std)

    def variance_scaling(scale=1.0, mode="fan_in", distribution="normal"):
        refuse(scale < 0, "scale < 0")
        return around_zero(distribution, lambda fan: math.sqrt(scale / fan), mode)

    def he(kind, gain=None, mode="fan_in", nonlinearity="relu", slope=None):
        if gain is None:
            refuse(slope is not None and math.isinf(slope * slope), "slope beyond float64")
            gain = GAINS[nonlinearity] if slope is None else math.sqrt(2 / (1 + slope * slope))
        return around_zero(kind, lambda fan: gain / math.sqrt(fan), mode)

    def xavier(kind, gain=1.0, mode="fan_avg"):
        return around_zero(kind, lambda fan: gain / math.sqrt(fan), mode)

    def lecun(kind, mode="fan_in"):
        return around_zero(kind, lambda fan: 1.0 / math.sqrt(fan), mode)

    def residual_normal(layers, std=0.02):
        return normal(0.0, std / math.sqrt(2 * layers))

    def fixup(layers, depth=2, mode="fan_in", distribution="normal"):
        refuse(depth < 2, "depth < 2")
        return he(distribution, math.sqrt(2.0) * power(layers, Fraction(-1, 2 * depth - 2)), mode)

    def t_fixup(layers, coder="decoder", mode="fan_avg", distribution="uniform"):
        root = Fraction(-1, 4)
        gain = power(9 * layers, root) if coder == "decoder" else 0.67 * power(layers, root)
        return xavier(distribution, gain, mode)

    def deepnet(encoder=0, decoder=0, coder="encoder", mode="fan_avg", distribution="normal"):
        if 0 in (encoder, decoder):
            gain = power(8 * (encoder + decoder), Fraction(-1, 4))
        elif coder == "decoder":
            gain = power(12 * decoder, Fraction(-1, 4))
        else:
            gain = 0.87 * power(encoder**4 * decoder, Fraction(-1, 16))
        return xavier(distribution, gain, mode)

    def mup(base_fan, std=0.02, place="hidden", distribution="normal"):
        factor = {"input": lambda ratio: 1.0, "hidden": math.sqrt, "output": lambda ratio: ratio}[place]
        return around_zero(distribution, lambda fan: std * factor(base_fan / fan), "fan_in")

    def embedding(kind):
        entries, *widths = (size for axis, size in enumerate(shape) if axis not in batch)
        if kind == "uniform":
            return uniform(-1 / math.sqrt(max(1, entries)), 1 / math.sqrt(max(1, entries)))
        return normal(0.0, 1 / math.sqrt(max(1, math.prod(widths))))

    def times(kind):
        return lambda gain=1.0: (kind, float(gain)) if gain != 0 else ("constant", 0.0)

    def sparse(sparsity, std=0.01, per="in"):
        refuse(not 0 <= sparsity <= 1 or std < 0, "sparsity or std")
        if std == 0:
            return ("constant", 0.0)
        return ("sparse", sparsity, std, per) if sparsity > 0 else normal(0.0, std)

    def array(values):
        return ("array", np.array(values, F64))

    def bilinear():
        kernel = layout.others(ins, outs, batch)
        product = np.array(Fraction(1), object)
        for axis, size in enumerate(shape):
            factors = bilinear_factors(size) if axis in kernel else [Fraction(1)]
            product = product[..., None] * np.array(factors, object)
        return ("array", product)

    def lstm_bias(forget=1.0, order="ifgo"):
        (axis,) = outs
        gates = np.repeat([float(forget) if gate == "f" else 0.0 for gate in order], shape[axis] // 4)
        return ("array", gates.reshape([-1 if other == axis else 1 for other in range(len(shape))]))

    basic = {
        "zeros": lambda: ("constant", 0.0),
        "ones": lambda: ("constant", 1.0),
        "constant": lambda value: ("constant", value),
        "uniform": uniform,
        "normal": normal,
        "truncated_normal": truncated_normal,
        "variance_scaling": variance_scaling,
        "residual_normal": residual_normal,
        "fixup": fixup,
        "t_fixup": t_fixup,
        "deepnet": deepnet,
        "mup": mup,
        "orthogonal": times("orthogonal"),
        "delta_orthogonal": times("delta_orthogonal"),
        "convolution_orthogonal": times("convolution_orthogonal"),
        "sparse": sparse,
        "identity": times("identity"),
        "dirac": lambda groups=1: ("dirac", groups),
        "array": array,
        "bilinear": bilinear,
        "lstm_bias": lstm_bias,
    }
    call = ast.parse(text if "(" in text else f"{text}()", mode="eval").body
    positional = [number(node) for node in call.args]
    named = {keyword.arg: number(keyword.value) for keyword in call.keywords}
    if call.func.id in basic:
        return basic[call.func.id](*positional, **named)
    family, kind = call.func.id.split("_", 1)
    families = {"he": he, "xavier": xavier, "lecun": lecun, "embedding": embedding}
    return families[family](kind, *positional, **named)


def refuse(condition, why):
    """There are no values."""
    if condition:
        raise ValueError(why)


def power(n, exponent):
    """n to a rational power, rounded once to float64."""
    exact = exactly(lambda: mpmath.mpf(n) ** (mpmath.mpf(exponent.numerator) / exponent.denominator))
    return float(rounding(F64, round)(exact))


def number(node):
    """The literal at this node of a scheme's text; inf is one."""
    text = ast.unparse(node)
    return float(text) if text in ("inf", "-inf") else ast.literal_eval(text)


class Constants(NamedTuple):
    """What the transforms of section 4 and 5 are given; each knows a few of these."""

    value: float = None
    mean: float = None
    std: float = None
    low: float = None
    width: float = None
    minimum: float = None
    maximum: float = None
    radius: float = None
    scale: float = None
    left: float = None
    right: float = None
    slope: float = None
    base: float = None
    threshold: int = None
    is_logarithmic: bool = None


def lower(law, working):
    """The constants of a distribution, rounded to the working type."""
    fl = rounding(working, round)
    up, down = rounding(working, math.ceil), rounding(working, math.floor)
    kind, *numbers = law[0], *map(float, law[1:3] if law[0] == "uniform" else law[1:])
    if kind == "constant":
        return Constants(value=fl(numbers[0]))
    if kind == "uniform":
        low, high = map(Fraction, numbers)
        under = down(high) if down(high) < high else np.nextafter(down(high), working(-math.inf))
        return Constants(low=up(low), width=fl(high - low), maximum=under)
    if kind.startswith("complex"):
        std = Fraction(numbers[0])
        if kind == "complex_normal":
            return Constants(mean=fl(0), std=fl(std * ROOT_OF_HALF))
        if kind == "complex_uniform":
            return Constants(radius=fl(std * 2 * ROOT_OF_HALF))
        return Constants(radius=fl(std * ROOT_OF_HALF), base=fl(E_TO_MINUS_4), slope=fl(1 - E_TO_MINUS_4))
    mean, std = map(Fraction, numbers[:2])
    if kind == "normal":
        return Constants(mean=fl(mean), std=fl(std))
    a, b = numbers[2:]
    largest = np.finfo(working).max
    common = Constants(
        mean=fl(mean),
        std=fl(std),
        minimum=-largest if a == -math.inf else up(mean + std * Fraction(a)),
        maximum=largest if b == math.inf else down(mean + std * Fraction(b)),
    )
    if working is F32 and 2**-64 <= -a == b <= 2:
        return common._replace(scale=fl(exactly(lambda: mpmath.erf(b / mpmath.sqrt(2))) / 2**31))
    if a < 0 < b:
        left, right = Q(-a), Q(b)
        inside = 1 - left - right
        return common._replace(
            left=fl(left),
            right=fl(right),
            slope=fl(inside),
            base=fl(0),
            threshold=math.ceil((Fraction(1, 2) - left) / inside * 2**31) - 1,
            is_logarithmic=False,
        )
    threshold, near, far = (-1, Q(a), Q(b)) if a >= 0 else (2**31 - 1, Q(-b), Q(-a))
    is_logarithmic = near < Fraction(1, 2**60)
    unit, base = (near, minus_2_ln(near)) if is_logarithmic else (1, 0)
    return common._replace(
        left=fl(far / unit),
        right=fl(far / unit),
        slope=fl((near - far) / unit),
        base=fl(base),
        threshold=threshold,
        is_logarithmic=is_logarithmic,
    )


def rounding(working, direction):
    """Rounds an exact number to float32 or float64, subnormals included, in the direction of `round`, `ceil`, ..."""
    precision, smallest = (24, -149) if working is F32 else (53, -1074)

    def rounded(number):
        if number == 0:
            return working(number)  # of -0.0 too
        number = Fraction(number)
        largest = Fraction(float(np.finfo(working).max))
        if direction is not round and abs(number) > largest:
            refuse((number > 0) == (direction is math.ceil), "no finite value on this side")
            number = largest if number > 0 else -largest
        exponent = number.numerator.bit_length() - number.denominator.bit_length()
        if abs(number) < Fraction(2) ** exponent:
            exponent -= 1  # now 2^exponent <= |number| < 2^(exponent + 1)
        step = Fraction(2) ** max(exponent - precision + 1, smallest)
        return working(float(direction(number / step) * step))

    return rounded


def number_below(low, high, dtype):
    """The largest number of a type below `high`, and, if that is not below `low`, below what `high` is in that type."""

    last = ml_dtypes.finfo(dtype).max  # float8_e4m3fn has no infinity
    near = dtype.type(float(high))
    neighbours = [np.nextafter(near, end) for end in (-last, last)]
    near = min((near, *neighbours), key=lambda x: abs(exact(x) - high))  # the way to the type may have rounded twice
    for most in (min(high, exact(near)), high):
        below = np.nextafter(near, last)
        while exact(below) >= most:
            below = np.nextafter(below, -last)
        if exact(below) >= low:
            break
    return float(below)


def exactly(compute):
    """What mpmath computes to so many digits that differences of probabilities keep 60 of them."""
    with mpmath.workdps(400):
        mantissa, exponent = compute().man_exp
        return mantissa * Fraction(2) ** exponent


ROOT_OF_HALF = exactly(lambda: mpmath.sqrt(0.5))
E_TO_MINUS_4 = exactly(lambda: mpmath.exp(-4))


@lru_cache
def Q(x):  # noqa: N802, its name in STREAM.md
    """The probability that a standard normal exceeds x."""
    return Fraction(x < 0) if abs(x) > 40 else exactly(lambda: mpmath.erfc(x / mpmath.sqrt(2)) / 2)


@lru_cache
def minus_2_ln(x):
    return exactly(lambda: -2 * mpmath.log(mpmath.mpf(x.numerator) / x.denominator))


# 4. float32: from words to values


def f32(*numbers):
    return np.array(numbers, F32)


LOG32 = f32(-0.3862858, 0.2496963, 0.08641958, 0.017658807, 0.042279344, -0.027597776, 0.017828736)
SIN32 = f32(1.5707963, -0.6459634, 0.07968848, -0.004672228, 0.00015082056)
COS32 = f32(0.99999994, -0.23369803, 0.01995129, -0.00085670187)
CENTRE32_EDGE = F32(0.91106975)
CENTRE32_ABOVE = f32(2.0953374, 22.881855, 52.546112, 16.916275, -0.9147579)
CENTRE32_BELOW = f32(1.0, 12.796838, 38.895466, 23.624996)
TAIL32_NEAR_ABOVE = f32(-3.1650481, -6.991799, 3.3766725, 3.646516, 0.39765742)
TAIL32_NEAR_BELOW = f32(1.0, 5.0637026, 3.6615078, 0.3974905)
TAIL32_FAR_ABOVE = f32(-2.2587612, 0.31830737, 1.1659133, 0.18522559, 0.004438194)
TAIL32_FAR_BELOW = f32(1.0, 1.1914654, 0.18526258, 0.004438102)


def poly(c, x):
    result = c[-1]
    for coefficient in c[-2::-1]:
        result = result * x + coefficient
    return result


def clamp(constants, v):
    return not_above(constants.maximum, np.where(v > constants.minimum, v, constants.minimum))


def not_above(maximum, v):
    return np.where(v < maximum, v, maximum)


def signed_float(w):
    return w.view(np.int32).astype(F32)


def radius2(b, one):
    linear = signed_float(U32(one) - b)
    g = F32(2) - ((b & U32(0x007FFFFF)) | U32(0x3F800000)).view(F32)
    return linear * F32(1.6525917e-07) + poly(LOG32, g) * g


def uniform32(constants, seed, stream, index):
    w = own_word(seed, stream, index)
    u = (w >> U32(8)).astype(F32) * F32(2**-24)
    return not_above(constants.maximum, constants.low + constants.width * u)


def direction32(w0, w1):
    """s, and the cosine and sine that go with it."""
    s = signed_float(w0 | U32(1)).view(U32) - U32(1)
    x = signed_float(w1 | U32(1)) * F32(2**-31 * (1 - 2**-24))
    y = x * x
    c = poly(COS32, y) * (F32(1) - y)
    return s, (c.view(U32) ^ (s & U32(0x80000000))).view(F32), poly(SIN32, y) * x


def normal32(constants, seed, stream, index, first_group=0):
    group, k, is_first = pair(index, first_group=first_group)
    s, cosine, sine = direction32(*rows_of_words(seed, stream, group, k))
    radius = constants.std * np.sqrt(radius2(s & U32(0x7FFFFFFF), 0x4F000000))
    return constants.mean + radius * np.where(is_first, cosine, sine)


def complex_normal32(constants, seed, stream, index):
    return joined(normal32(constants, seed, stream, 2 * index), normal32(constants, seed, stream, 2 * index + 1))


def complex_uniform32(constants, seed, stream, index):
    s, cosine, sine = direction32(*rows_of_words(seed, stream, index // 16, index % 16))
    v = (s & U32(0x7FFFFFFF)).view(F32) * F32(2**-31)
    size = constants.radius * np.sqrt(v)
    return joined(size * cosine, size * sine)


def complex_truncated_normal32(constants, seed, stream, index):
    s, cosine, sine = direction32(*rows_of_words(seed, stream, index // 16, index % 16))
    v = (s & U32(0x7FFFFFFF)).view(F32) * F32(2**-31)
    d = constants.slope * v
    near = (d + d * d * (F32(0.5) + d * F32(0.33333334))) * F32(2)
    far = radius2((constants.base + constants.slope * (F32(1) - v)).view(U32), 0x3F800000)
    size = constants.radius * np.sqrt(np.where(d < F32(2**-10), near, far))
    return joined(size * cosine, size * sine)


def joined(real, imaginary):
    """Complex numbers of these parts."""
    assert real.dtype == imaginary.dtype
    result = np.empty(real.shape, np.complex64 if real.dtype == F32 else np.complex128)
    result.real, result.imag = real, imaginary
    return result


def truncated_normal32(constants, seed, stream, index):
    return (centre32 if constants.scale is not None else tail32)(constants, seed, stream, index)


def centre32(constants, seed, stream, index):
    group, k, is_first = pair(index)
    w0, w1 = rows_of_words(seed, stream, group, k)
    x0, x1 = signed_float(w0 | U32(1)) * constants.scale, signed_float(w1 | U32(1)) * constants.scale
    t0, t1 = CENTRE32_EDGE - x0 * x0, CENTRE32_EDGE - x1 * x1
    b0, b1 = poly(CENTRE32_BELOW, t0), poly(CENTRE32_BELOW, t1)
    inverse = F32(1) / (b0 * b1)
    z0 = x0 * poly(CENTRE32_ABOVE, t0) * (b1 * inverse)
    z1 = x1 * poly(CENTRE32_ABOVE, t1) * (b0 * inverse)
    return clamp(constants, constants.mean + constants.std * np.where(is_first, z0, z1))


def tail32(constants, seed, stream, index):
    w = own_word(seed, stream, index)
    is_right = (w >> U32(1)).view(np.int32) > constants.threshold
    n = np.where(is_right, ~w, w)
    high, low = (n >> U32(16)).astype(F32), (n & U32(0xFFFF)).astype(F32)
    v = (high + (low + F32(0.5)) * F32(2**-16)) * F32(2**-16)
    tail = np.where(is_right, constants.right, constants.left) + constants.slope * v
    t = np.sqrt(constants.base + radius2(tail.view(U32), 0x3F800000))
    if constants.is_logarithmic:
        z = poly(TAIL32_FAR_ABOVE, t) / poly(TAIL32_FAR_BELOW, t)
    else:
        z = poly(TAIL32_NEAR_ABOVE, t) / poly(TAIL32_NEAR_BELOW, t)
    z = np.where(z > F32(2**-64), z, F32(2**-64))
    return clamp(constants, constants.mean + constants.std * np.where(is_right, z, -z))


# 5. float64: from words to values


def f64(*numbers):
    return np.array(numbers, F64)


LOG64 = f64(
    -4.0, -1.3333333333333532, -0.7999999999858641, -0.5714285752541893,
    -0.44444393672014637, -0.36367287345296634, -0.30624414648778375, -0.29626123843228064,
)  # fmt: skip
SIN64 = f64(
    1.5707963267948966, -0.6459640975062462, 0.07969262624616565, -0.004681754135304255, 0.0001604411847130916,
    -3.5988430204672576e-06, 5.6921364280986254e-08, -6.684416831856085e-10, 5.87297574479995e-12,
)  # fmt: skip
COS64 = f64(
    1.0, -0.23370055013616983, 0.019968957764878077, -0.0008945229984736444, 2.473727635883673e-05,
    -4.647659915952978e-07, 6.321440904258357e-09, -6.510529156797684e-11, 5.10846968542241e-13,
)  # fmt: skip
NEAR64 = f64(1.0, 0.5, 0.3333333333333333, 0.25, 0.2, 0.16666666666666666, 0.14285714285714285)
# PPND16 of Wichura 1988, AS 241: around the median, the tail to r = 5, beyond.
TAIL64_ABOVE = np.stack([
    f64(3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
        45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    f64(1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
        1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4),
    f64(6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
        0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
])  # fmt: skip
TAIL64_BELOW = np.stack([
    f64(1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
        21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
    f64(1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
        0.148103976427480074590, 0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
    f64(1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
        7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15),
])  # fmt: skip


def radius2_64(x):
    one = U64(0x3FF0000000000000)
    with np.errstate(over="ignore"):  # modulo 2^64
        shifted = x.view(U64) - U64(0x3FE6A09E00000000) + one
        e = (shifted >> U64(52)).astype(F64) - 1023
        m = (x.view(U64) - (shifted & U64(0xFFF0000000000000)) + one).view(F64)
    q = (m - 1) / (m + 1)
    return e * -1.3862943611198906 + q * poly(LOG64, q * q)


def signed(w, w_):
    return w.view(np.int32).astype(F64) + ((w_ >> U32(1)).astype(F64) + 0.5) * 2**-31


def uniform64(constants, seed, stream, index):
    w, w_ = own_words(seed, stream, index)
    u = ((w >> U32(5)).astype(F64) * 2**26 + (w_ >> U32(6)).astype(F64)) * 2**-53
    return not_above(constants.maximum, constants.low + constants.width * u)


def direction64(seed, stream, group, k):
    """|number(s)|, and the cosine and sine that go with it."""
    s = (signed(*rows_of_words(seed, stream, group, k)) * 2**-31).view(U64)
    x = signed(*rows_of_words(seed, stream, group, 8 + k)) * (2**-31 * (1 - 2**-53))
    y = x * x
    c = poly(COS64, y) * (1 - y)
    cosine = (c.view(U64) ^ (s & U64(0x8000000000000000))).view(F64)
    return (s & U64(0x7FFFFFFFFFFFFFFF)).view(F64), cosine, poly(SIN64, y) * x


def normal64(constants, seed, stream, index, first_group=0):
    group, k, is_first = pair(index, 16, first_group)
    v, cosine, sine = direction64(seed, stream, group, k)
    radius = constants.std * np.sqrt(radius2_64(v) + 2**-52)
    return constants.mean + radius * np.where(is_first, cosine, sine)


def complex_normal64(constants, seed, stream, index):
    return joined(normal64(constants, seed, stream, 2 * index), normal64(constants, seed, stream, 2 * index + 1))


def complex_uniform64(constants, seed, stream, index):
    v, cosine, sine = direction64(seed, stream, index // 8, index % 8)
    size = constants.radius * np.sqrt(v)
    return joined(size * cosine, size * sine)


def complex_truncated_normal64(constants, seed, stream, index):
    v, cosine, sine = direction64(seed, stream, index // 8, index % 8)
    d = constants.slope * v
    near = poly(NEAR64, d) * d * 2
    far = radius2_64(constants.base + constants.slope * (1 - v))
    size = constants.radius * np.sqrt(np.where(d < 2**-8, near, far))
    return joined(size * cosine, size * sine)


def truncated_normal64(constants, seed, stream, index):
    w, w_ = own_words(seed, stream, index)
    is_right = (w >> U32(1)).view(np.int32) > constants.threshold
    n, n_ = np.where(is_right, ~w, w), np.where(is_right, ~w_, w_)
    whole = (n >> U32(1)).astype(F64) * 2 + (n & U32(1)).astype(F64)
    v = (whole + ((n_ >> U32(1)).astype(F64) + 0.5) * 2**-31) * 2**-32
    tail = np.where(is_right, constants.right, constants.left) + constants.slope * v
    h = 0.5 - tail
    r = np.sqrt((constants.base + radius2_64(tail)) * 0.5)
    is_centre = (tail >= 0.075) & (not constants.is_logarithmic)
    row = np.where(is_centre, 0, np.where(r <= 5, 1, 2))
    x = np.where(is_centre, 0.180625 - h * h, np.where(r <= 5, r - 1.6, r - 5))
    z = np.where(is_centre, h, 1.0) * poly(TAIL64_ABOVE[row].T, x) / poly(TAIL64_BELOW[row].T, x)
    z = np.where(z == 0, 2**-64, z)
    return clamp(constants, constants.mean + constants.std * np.where(is_right, z, -z))


TRANSFORMS = {
    ("uniform", F32): uniform32,
    ("normal", F32): normal32,
    ("truncated_normal", F32): truncated_normal32,
    ("uniform", F64): uniform64,
    ("normal", F64): normal64,
    ("truncated_normal", F64): truncated_normal64,
    ("complex_uniform", F32): complex_uniform32,
    ("complex_normal", F32): complex_normal32,
    ("complex_truncated_normal", F32): complex_truncated_normal32,
    ("complex_uniform", F64): complex_uniform64,
    ("complex_normal", F64): complex_normal64,
    ("complex_truncated_normal", F64): complex_truncated_normal64,
}

# 6. Narrower types: `astype`, which NumPy and ml_dtypes round once, to nearest, ties to even.

DTYPES = {
    "float32": np.dtype(F32),
    "float64": np.dtype(F64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
COMPLEX_DTYPES = {"complex64": np.dtype(np.complex64), "complex128": np.dtype(np.complex128)}

# What is refused

REACH_OF_NORMAL = {F32: Fraction("6.5557"), F64: Fraction("9.3455")}


def refuse_what_reaches_too_far(law, working, dtype):
    """Raises ValueError where section 6 says so."""
    kind, *numbers = law

    def check(mean, std=0, reach=0):
        constants = [exact(mean), exact(std)]
        if not any(overflows(number, working) for number in constants):
            constants = [exact(rounding(working, round)(number)) for number in constants]
        size = abs(constants[0]) + reach * constants[1]
        refuse(overflows(size, working) or overflows(rounding(working, round)(size), dtype), "reaches too far")

    if kind == "constant" or kind == "identity":
        check(numbers[0])
    elif kind == "uniform":
        low, high = map(Fraction, numbers[:2])
        check(low)
        check(high)
        refuse(overflows(high - low, working), "too wide")
    elif kind in ("normal", "sparse"):
        check(0 if kind == "sparse" else numbers[0], numbers[1], REACH_OF_NORMAL[working])
    elif kind == "complex_normal":
        check(0, Fraction(numbers[0]) * ROOT_OF_HALF, REACH_OF_NORMAL[working])
    elif kind == "complex_uniform":
        check(0, Fraction(numbers[0]) * 2 * ROOT_OF_HALF, 1 + Fraction(1, 2**20))
    elif kind == "complex_truncated_normal":
        check(0, numbers[0], 2 + Fraction(2, 2**20))
    elif kind.endswith("orthogonal"):
        check(0, abs(numbers[0]), Fraction(1025, 1024))
    elif kind == "array":
        for number in numbers[0].ravel():
            check(number)
    elif kind == "truncated_normal":
        mean, std, a, b = numbers
        refuse(overflows(std, working), "std beyond the working type")
        nearer = max(a if math.isinf(b) else -b, 0.0)
        infinite = math.sqrt(nearer * nearer + 1.4 * (33 if working is F32 else 65))
        for bound, direction in ((a, math.ceil), (b, math.floor)):
            check(mean, std, Fraction(infinite if math.isinf(bound) else abs(bound)))
            if math.isfinite(bound):
                edge = Fraction(mean) + Fraction(std) * Fraction(bound)
                check(rounding(working, direction)(edge))


def exact(number):
    """A number as a fraction; Fraction knows float64 alone of NumPy's types."""
    return Fraction(float(number) if isinstance(number, np.generic) else number)


def overflows(number, kind):
    """Whether a number, rounded to a type, is no longer finite."""
    if kind in (F32, F64):
        return abs(exact(number)) >= (2**128 - 2**103 if kind is F32 else 2**1024 - 2**970)
    with np.errstate(over="ignore"):
        return not np.isfinite(number.astype(kind))  # which is one of the working type


# 7. Matrices


def matrix_axes(layout):
    """The axes of the rows and of the columns."""
    inputs = layout.others(layout.outs, layout.batch)
    first = layout.others(layout.batch)[0]
    return (layout.outs, inputs) if first in layout.outs else (inputs, layout.outs)


# 8. Orthogonal

BLOCK = 64


def orthogonal(gain, layout, working, seed, stream, index):
    rows, columns = matrix_axes(layout)
    t, i, j = (layout.along(axes, index) for axes in (layout.batch, rows, columns))
    n, m = layout.size(rows), layout.size(columns)
    if n <= m:
        n, m, i, j = m, n, j, i
    gain = rounding(working, round)(gain)
    result = np.empty(index.shape, working)
    for matrix in np.unique(t):
        here = t == matrix
        signs, q = signs_and_lanes(working, seed, stream, int(matrix), n, m)
        result[here] = (gain * signs)[j[here]] * q[i[here], j[here]]
    return result


@lru_cache
def signs_and_lanes(working, seed, stream, t, n, m):
    """D[j] and q[i, j], for all positions i and lanes j of matrix t."""
    v, signs, S = reflectors(auxiliary_normals(working, seed, stream, t * n, n, m), working)  # noqa: N806, as there
    q = near_square(v, S, working) if n < 2 * m else tall(v, S, working)
    assert v.dtype == signs.dtype == q.dtype == working
    return signs, q


def auxiliary_normals(working, seed, stream, first, n, m):
    """Auxiliary elements (`first` + i) m + k, for i < n and k < m."""
    element = (first + np.arange(n, dtype=U64)[:, None]) * m + np.arange(m, dtype=U64)
    normal = {F32: normal32, F64: normal64}[working]
    standard = Constants(mean=working(0), std=working(1))
    return normal(standard, seed, stream, element.ravel(), AUXILIARY_GROUPS).reshape(n, m)


def reflectors(x, working):
    """v, D and S."""
    n, m = x.shape
    lane, diagonal = np.arange(m), np.arange(m)
    wide = x.astype(F64)
    squares = np.zeros(m)
    for i in range(n):
        squares = squares + np.where(i > lane, wide[i] * wide[i], 0)
    own = wide[diagonal, diagonal]
    norm = np.sqrt(squares + own * own)
    head = np.where(own >= 0, own + norm, own - norm).astype(working)

    v = np.where(np.arange(n)[:, None] > lane, x, working(0))
    v[diagonal, diagonal] = head
    signs = np.where(head < 0, working(1), working(-1))

    products = np.zeros((m, m))
    for block in blocks(0, n):
        within = np.zeros((m, m), working)
        for i in block:
            within = within + np.where(i > lane, x[i, :, None] * x[i, None, :], working(0))
        products = products + within
    wide_head = head.astype(F64)
    S = np.triu(products + wide[:m].T * wide_head, 1)  # noqa: N806
    S[diagonal, diagonal] = (squares + wide_head * wide_head) * 0.5
    return v, signs, S


def blocks(first, last):
    """Indices from a multiple of 64 on, in ascending order, block by block."""
    return [range(start, min(start + BLOCK, last)) for start in range(first, last, BLOCK)]


def near_square(v, S, working):  # noqa: N803
    n, m = v.shape
    q = np.eye(n, m, dtype=working)
    for panel in reversed(blocks(0, m)):
        reflect(v, S.astype(working), q[:, panel.start :], panel)  # the lanes with j div 64 >= b
    return q


def reflect(v, s, q, panel, is_projecting=False):
    """One panel's reflections of the columns of q, in place."""
    n, start = len(v), panel.start
    p = np.zeros((len(panel), q.shape[1]), q.dtype)
    for block in blocks(start, n):
        within = np.zeros_like(p)
        for i in block:
            within = within + v[i, panel, None] * q[i]
        p = p + within
    for k in panel if is_projecting else reversed(panel):
        others = range(k + 1, panel.stop) if is_projecting else range(start, k)
        p[k - start] = p[k - start] / s[k, k]
        for j in others:
            p[j - start] = p[j - start] - (s[k, j] if is_projecting else s[j, k]) * p[k - start]
    total = np.zeros((n - start, q.shape[1]), q.dtype)
    for k in panel:
        total = total + v[start:, k, None] * -p[k - start]
    q[start:] = q[start:] + total


def tall(v, S, working):  # noqa: N803
    n, m = v.shape
    lane = np.arange(m)
    N = np.zeros((m, m))  # noqa: N806, its name in STREAM.md
    for block in reversed(blocks(0, m)):
        first, end = block.start, block.stop
        t = v[:m, first:end].T.astype(F64)  # t[k, j]
        for later in blocks(end, m):
            within = np.zeros_like(t)
            for k_ in later:
                within = within + S[first:end, k_, None] * N[k_]
            t = t + within
        for k in reversed(block):
            N[k] = np.where(k <= lane, -(t[k - first] / S[k, k]), 0)
            t[: k - first] = t[: k - first] + S[first:k, k, None] * N[k]

    rounded = N.astype(working)
    q = np.eye(n, m, dtype=working)
    for block in blocks(0, m):
        within = np.zeros_like(q)
        for k in block:
            within = within + v[:, k, None] * rounded[k]
        q = q + within
    return q


def delta_orthogonal(gain, layout, working, seed, stream, index):
    kernel = layout.others(layout.ins, layout.outs, layout.batch)
    kept = layout.others(kernel)
    without = Layout(
        tuple(layout.shape[axis] for axis in kept),
        *(tuple(kept.index(axis) for axis in axes) for axes in (layout.ins, layout.outs, layout.batch)),
    )
    inner = orthogonal(gain, without, working, seed, stream, layout.along(kept, index))
    places = layout.coordinates(index)
    is_centre = np.ones(index.shape, bool)
    for axis in kernel:
        is_centre &= places[axis] == (layout.shape[axis] - 1) // 2
    return np.where(is_centre, inner, working(0))


def convolution_orthogonal(gain, layout, working, seed, stream, index):
    kernel = layout.others(layout.ins, layout.outs, layout.batch)
    sizes = tuple(layout.shape[axis] for axis in kernel)
    t, place, j, i = (layout.along(axes, index) for axes in (layout.batch, kernel, layout.ins, layout.outs))
    c, n = layout.size(layout.ins), layout.size(layout.outs)
    gain = rounding(working, round)(gain)
    result = np.empty(index.shape, working)
    for matrix in np.unique(t):
        here = t == matrix
        signs, vectors = signs_and_vectors(working, seed, stream, int(matrix), sizes, c, n)
        result[here] = (gain * signs)[j[here]] * vectors.reshape(-1, n, c)[place[here], i[here], j[here]]
    return result


@lru_cache
def signs_and_vectors(working, seed, stream, t, sizes, c, n):
    """D[j], and for every place the vectors of all inputs as columns."""
    F = sum(size - 1 for size in sizes)  # noqa: N806
    T = t * ((F + 1) * n + F)  # noqa: N806
    v, signs, S = reflectors(auxiliary_normals(working, seed, stream, T, n, n), working)  # noqa: N806
    vectors = np.zeros((*sizes, n, c), working)
    vectors[(0,) * len(sizes)] = near_square(v, S, working)[:, :c]
    axes = [axis for turn in range(max(sizes) - 1) for axis, size in enumerate(sizes) if turn < size - 1]
    for f, axis in enumerate(axes):
        v, _, S = reflectors(auxiliary_normals(working, seed, stream, T + (f + 1) * n, n, n), working)  # noqa: N806
        r = int((auxiliary_normals(working, seed, stream, T + (F + 1) * n + f, 1, n) > 0).sum())
        y = np.zeros_like(vectors)
        for place in np.ndindex(sizes):
            y[place] = projection(vectors[place], v, S.astype(working), r)
        rest = np.moveaxis(vectors - y, axis, 0)
        vectors = y.copy()
        np.moveaxis(vectors, axis, 0)[1:] += rest[:-1]
    assert vectors.dtype == working
    return signs, vectors


def projection(x, v, s, r):
    y = x.copy()
    for panel in blocks(0, r):
        reflect(v, s, y, panel, is_projecting=True)
    y[r:] = 0
    for panel in reversed(blocks(0, r)):
        reflect(v, s, y, panel)
    return y


# 9. Sparse


def sparse(sparsity, std, per, layout, working, seed, stream, index):
    inputs = layout.others(layout.outs, layout.batch)
    unit_axes, entry_axes = (inputs, layout.outs) if per == "in" else (layout.outs, inputs)
    n = layout.size(entry_axes)
    z = min(n, math.ceil(sparsity * float(n)))
    u = layout.along(layout.batch, index) * U64(layout.size(unit_axes)) + layout.along(unit_axes, index)
    o = layout.along(entry_axes, index)
    units, which = np.unique(u, return_inverse=True)
    places = (ranks if n <= 128 else places_in_turned_grid)(seed, stream, units, n)
    weights = drawn(("normal", 0.0, std), working, seed, stream, index)
    return np.where(places[which, o.astype(np.intp)] < z, working(0), weights)


def ranks(seed, stream, units, n):
    """Of each of the n entries of these units, the place among them: for every unit a row."""
    entry = np.arange(n, dtype=U64)
    drawn_words = auxiliary_words(seed, stream, units[:, None] * U64(-(-n // 32)), entry)
    places = np.empty(drawn_words.shape, np.intp)
    np.put_along_axis(places, np.argsort(drawn_words, axis=1, kind="stable"), np.arange(n)[None, :], axis=1)
    return places


def places_in_turned_grid(seed, stream, units, n):
    """As `ranks`, where n > 128."""
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    last = n - (b - 1) * a
    width = np.array([a] * (b - 1) + [last], U64)  # of each row
    height = np.array([b] * last + [b - 1] * (a - last), U64)  # of each column
    word = auxiliary_words(
        seed, stream, units[:, None] * U64(-(-4 * (a + b) // 32)), np.arange(4 * (a + b), dtype=U64)
    ).astype(U64)
    row = np.broadcast_to(np.arange(n, dtype=U64) // U64(a), (len(units), n))
    column = np.broadcast_to(np.arange(n, dtype=U64) % U64(a), (len(units), n))
    unit = np.arange(len(units))[:, None]
    for turn in range(4):
        of_rows = word[:, turn * (a + b) : turn * (a + b) + b]
        of_columns = word[:, turn * (a + b) + b : (turn + 1) * (a + b)]
        column = turned(column, of_rows[unit, row], width[row])
        row = turned(row, of_columns[unit, column], height[column])
    return row * U64(a) + column


def turned(place, word, size):
    return (place + (word * size >> U64(32))) % size


# 10. What is given


def identity(gain, layout, working, seed, stream, index):
    rows, columns = matrix_axes(layout)
    on_diagonal = layout.along(rows, index) == layout.along(columns, index)
    return np.where(on_diagonal, rounding(working, round)(gain), working(0))


def dirac(groups, layout, working, seed, stream, index):
    per_group = U64(layout.size(layout.outs) // groups)
    is_one = layout.along(layout.ins, index) == layout.along(layout.outs, index) % per_group
    places = layout.coordinates(index)
    for axis in layout.others(layout.ins, layout.outs, layout.batch):
        is_one &= places[axis] == layout.shape[axis] // 2
    return np.where(is_one, working(1), working(0))


def bilinear_factors(size):
    f = max(1, -(-size // 2))
    c = Fraction(2 * f - 1 - f % 2, 2 * f)
    return [1 - abs(Fraction(k, f) - c) for k in range(size)]


def array(given, layout, working, seed, stream, index):
    fl = rounding(working, round)
    rounded = np.array([fl(value) for value in given.ravel()], working).reshape(given.shape)
    return np.broadcast_to(rounded, layout.shape)[tuple(layout.coordinates(index))]


STRUCTURES = {
    "orthogonal": orthogonal,
    "delta_orthogonal": delta_orthogonal,
    "convolution_orthogonal": convolution_orthogonal,
    "sparse": sparse,
    "identity": identity,
    "dirac": dirac,
    "array": array,
}
