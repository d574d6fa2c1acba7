"""The kernels of transforms.pxi once more, in Triton: the same operations in the same order, and so the same bits.

(a) Only + - * and correctly rounded / and sqrt, integer operations and conversions from signed 32-bit integers. Every
    launch says ``enable_fp_fusion=False``; Triton's own sqrt and / of float32 are not rounded so.
(b) `draw` turns the blocks of some groups of 32 words into two tensors of values, one row for each group: the first and
    the second half of the group, or its even and odd elements where the values are complex (`places`).
(c) `fill_run` writes neighbours of the global tensor to neighbours in memory, `fill_panels` all other layouts.
(d) Triton chooses the type of an integer argument by its size and compiles a kernel for each. So all are declared to be
    int64, and constants come as their bits. The interpreter knows no declared types: `wide`.
(e) The coefficients are those of include/coefficients.h, as `winit_fast._coefficients` reads them.
"""

import triton
import triton.language as tl

from winit_fast._coefficients import coefficients

__all__ = ["fill_panels", "fill_run"]

_NUMBERS = coefficients()
LOG32 = tl.constexpr(_NUMBERS["LOG32"])
SIN32 = tl.constexpr(_NUMBERS["SIN32"])
COS32 = tl.constexpr(_NUMBERS["COS32"])
CENTRE32_EDGE = tl.constexpr(_NUMBERS["CENTRE32_EDGE"])
CENTRE32_ABOVE = tl.constexpr(_NUMBERS["CENTRE32_ABOVE"])
CENTRE32_BELOW = tl.constexpr(_NUMBERS["CENTRE32_BELOW"])
TAIL32_NEAR_ABOVE = tl.constexpr(_NUMBERS["TAIL32_NEAR_ABOVE"])
TAIL32_NEAR_BELOW = tl.constexpr(_NUMBERS["TAIL32_NEAR_BELOW"])
TAIL32_FAR_ABOVE = tl.constexpr(_NUMBERS["TAIL32_FAR_ABOVE"])
TAIL32_FAR_BELOW = tl.constexpr(_NUMBERS["TAIL32_FAR_BELOW"])
LOG64 = tl.constexpr(_NUMBERS["LOG64"])
SIN64 = tl.constexpr(_NUMBERS["SIN64"])
COS64 = tl.constexpr(_NUMBERS["COS64"])
NEAR64 = tl.constexpr(_NUMBERS["NEAR64"])
TAIL64_ABOVE = tl.constexpr(_NUMBERS["TAIL64_ABOVE"])  # three rows of 8
TAIL64_BELOW = tl.constexpr(_NUMBERS["TAIL64_BELOW"])

# Integers whose size or divisibility must not decide which kernel is compiled, nor where memory begins.
_CONSTANTS = ["seed", "stream", "c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"]
_RUN = ["before", "count", "first_group", *_CONSTANTS]
_PANELS = [
    "out", "row_list", "padding", "first", "columns", "column_stride", "pieces", "units",
    "extent0", "extent1", "extent2", "extent3", "stride0", "stride1", "stride2", "stride3",
    "step0", "step1", "step2", "step3", *_CONSTANTS,
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- words


@triton.jit
def wide(number):
    """As int64. The interpreter would keep numbers from 2^31 on in 32 bits."""
    return number.to(tl.int64) + tl.full((), 0, tl.int64)


@triton.jit
def philox(c0, c1, c2, c3, key0, key1):
    """Philox4x32-10 of counters (c0, c1, c2, c3), all uint32."""
    for _ in tl.static_range(10):
        p = c0.to(tl.uint64) * 0xD2511F53
        q = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (q >> 32).to(tl.uint32) ^ c1 ^ key0
        c2 = (p >> 32).to(tl.uint32) ^ c3 ^ key1
        c1 = q.to(tl.uint32)
        c3 = p.to(tl.uint32)
        key0 = key0 + 0x9E3779B9
        key1 = key1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def single(bits):
    return bits.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def double(bits):
    return bits.to(tl.float64, bitcast=True)


@triton.jit
def polynomial(c: tl.constexpr, DEGREE: tl.constexpr, x):
    value = c[DEGREE] * x + c[DEGREE - 1]
    for i in tl.static_range(DEGREE - 1):
        value = value * x + c[DEGREE - 2 - i]
    return value


@triton.jit
def clamp(value, minimum, maximum):
    value = tl.where(value > minimum, value, minimum)
    return tl.where(value < maximum, value, maximum)


# -------------------------------------------------------------------------------------------------------------- float32


@triton.jit
def signed32(word):
    return word.to(tl.int32, bitcast=True).to(tl.float32)


@triton.jit
def squared_radius32(bits, bits_of_one: tl.constexpr):
    linear = signed32(bits_of_one - bits)
    g = 2.0 - ((bits & 0x007FFFFF) | 0x3F800000).to(tl.float32, bitcast=True)
    return linear * 1.6525917e-07 + polynomial(LOG32, 6, g) * g


@triton.jit
def turn32(word, cosine_sign):
    """The cosine and sine of half a turn's angle; the cosine has its sign from another word."""
    x = signed32(word | 1) * 4.656612595521636e-10  # 2^-31 - 2^-55
    y = x * x
    cosine = polynomial(COS32, 3, y) * (1.0 - y)
    cosine = (cosine.to(tl.uint32, bitcast=True) ^ cosine_sign).to(tl.float32, bitcast=True)
    return cosine, polynomial(SIN32, 4, y) * x


@triton.jit
def uniform32(word, low, width, maximum):
    value = low + width * (signed32(word >> 8) * 5.9604644775390625e-08)  # 2^-24
    return tl.where(value < maximum, value, maximum)


@triton.jit
def normal32(even, odd, mean, std):
    signed_bits = signed32(even | 1).to(tl.uint32, bitcast=True) - 1
    radius = std * tl.math.sqrt_rn(squared_radius32(signed_bits & 0x7FFFFFFF, 0x4F000000))
    cosine, sine = turn32(odd, signed_bits & 0x80000000)
    return mean + radius * cosine, mean + radius * sine


@triton.jit
def centre32(even, odd, mean, std, scale, minimum, maximum):
    x0 = signed32(even | 1) * scale
    x1 = signed32(odd | 1) * scale
    t0 = CENTRE32_EDGE[0] - x0 * x0
    t1 = CENTRE32_EDGE[0] - x1 * x1
    below0 = polynomial(CENTRE32_BELOW, 3, t0)
    below1 = polynomial(CENTRE32_BELOW, 3, t1)
    inverse = tl.math.div_rn(tl.full(t0.shape, 1.0, tl.float32), below0 * below1)
    x0 = x0 * polynomial(CENTRE32_ABOVE, 4, t0) * (below1 * inverse)
    x1 = x1 * polynomial(CENTRE32_ABOVE, 4, t1) * (below0 * inverse)
    return clamp(mean + std * x0, minimum, maximum), clamp(mean + std * x1, minimum, maximum)


@triton.jit
def tail32(word, mean, std, minimum, maximum, threshold, left, right, slope, base, FAR: tl.constexpr):
    is_right = (word >> 1).to(tl.int32, bitcast=True) > threshold
    counted = tl.where(is_right, word ^ 0xFFFFFFFF, word)
    high = signed32(counted >> 16)
    low = (signed32(counted & 0xFFFF) + 0.5) * 1.52587890625e-05  # 2^-16
    v = (high + low) * 1.52587890625e-05
    tail = tl.where(is_right, right, left) + slope * v
    t = tl.math.sqrt_rn(base + squared_radius32(tail.to(tl.uint32, bitcast=True), 0x3F800000))
    if FAR:
        z = tl.math.div_rn(polynomial(TAIL32_FAR_ABOVE, 4, t), polynomial(TAIL32_FAR_BELOW, 3, t))
    else:
        z = tl.math.div_rn(polynomial(TAIL32_NEAR_ABOVE, 4, t), polynomial(TAIL32_NEAR_BELOW, 3, t))
    z = tl.where(z > 5.421010862427522e-20, z, 5.421010862427522e-20)  # 2^-64
    return clamp(mean + std * tl.where(is_right, z, -z), minimum, maximum)


@triton.jit
def disk32(even, odd, radius, base, slope, TRUNCATED: tl.constexpr):
    signed_bits = signed32(even | 1).to(tl.uint32, bitcast=True) - 1
    v = (signed_bits & 0x7FFFFFFF).to(tl.float32, bitcast=True) * 4.656612873077393e-10  # 2^-31
    if TRUNCATED:
        d = slope * v
        near = (d + d * d * (0.5 + d * 0.33333334)) * 2.0
        far = squared_radius32((base + slope * (1.0 - v)).to(tl.uint32, bitcast=True), 0x3F800000)
        size = radius * tl.math.sqrt_rn(tl.where(d < 0.0009765625, near, far))  # 2^-10
    else:
        size = radius * tl.math.sqrt_rn(v)
    cosine, sine = turn32(odd, signed_bits & 0x80000000)
    return size * cosine, size * sine


@triton.jit
def values32(even, odd, c0, c1, c2, c3, c4, c5, c6, c7, c8, TRANSFORM: tl.constexpr):
    """The values that a transform makes of two words: of elements half a group apart, or of one complex number."""
    if TRANSFORM == "constant32":
        a = single(tl.full(even.shape, 0, tl.int32) + c0.to(tl.int32))
        b = a
    elif TRANSFORM == "uniform32":
        a = uniform32(even, single(c0), single(c1), single(c2))
        b = uniform32(odd, single(c0), single(c1), single(c2))
    elif TRANSFORM == "normal32":
        a, b = normal32(even, odd, single(c0), single(c1))
    elif TRANSFORM == "truncated_centre32":
        a, b = centre32(even, odd, single(c0), single(c1), single(c2), single(c3), single(c4))
    elif TRANSFORM == "disk32":
        a, b = disk32(even, odd, single(c0), 0.0, 0.0, False)
    elif TRANSFORM == "truncated_disk32":
        a, b = disk32(even, odd, single(c0), single(c1), single(c2), True)
    else:
        tl.static_assert((TRANSFORM == "truncated_near32") or (TRANSFORM == "truncated_far32"))
        a = tail32(
            even, single(c0), single(c1), single(c2), single(c3), c4.to(tl.int32), single(c5), single(c6), single(c7),
            single(c8), TRANSFORM == "truncated_far32",
        )  # fmt: skip
        b = tail32(
            odd, single(c0), single(c1), single(c2), single(c3), c4.to(tl.int32), single(c5), single(c6), single(c7),
            single(c8), TRANSFORM == "truncated_far32",
        )  # fmt: skip
    return a, b


# -------------------------------------------------------------------------------------------------------------- float64


@triton.jit
def whole64(word):
    return word.to(tl.int32, bitcast=True).to(tl.float64)


@triton.jit
def signed64(even, odd):
    return whole64(even) + (whole64(odd >> 1) + 0.5) * 4.656612873077393e-10  # 2^-31


@triton.jit
def squared_radius64(x):
    bits = x.to(tl.uint64, bitcast=True)
    shifted = bits - 0x3FE6A09E00000000 + 0x3FF0000000000000
    e = (shifted >> 52).to(tl.int32).to(tl.float64) - 1023.0
    m = (bits - (shifted & 0xFFF0000000000000) + 0x3FF0000000000000).to(tl.float64, bitcast=True)
    s = (m - 1.0) / (m + 1.0)
    return e * -1.3862943611198906 + s * polynomial(LOG64, 7, s * s)


@triton.jit
def turn64(even, odd, cosine_sign):
    x = signed64(even, odd) * 4.656612873077392e-10  # 2^-31 - 2^-84
    y = x * x
    cosine = polynomial(COS64, 8, y) * (1.0 - y)
    cosine = (cosine.to(tl.uint64, bitcast=True) ^ cosine_sign).to(tl.float64, bitcast=True)
    return cosine, polynomial(SIN64, 8, y) * x


@triton.jit
def uniform64(even, odd, low, width, maximum):
    u = whole64(even >> 5) * 67108864.0 + whole64(odd >> 6)
    value = low + width * (u * 1.1102230246251565e-16)  # 2^-53
    return tl.where(value < maximum, value, maximum)


@triton.jit
def normal64(even, odd, second_even, second_odd, mean, std):
    signed_bits = (signed64(even, odd) * 4.656612873077393e-10).to(tl.uint64, bitcast=True)  # 2^-31
    squared = squared_radius64((signed_bits & 0x7FFFFFFFFFFFFFFF).to(tl.float64, bitcast=True))
    radius = std * tl.sqrt(squared + 2.220446049250313e-16)
    cosine, sine = turn64(second_even, second_odd, signed_bits & 0x8000000000000000)
    return mean + radius * cosine, mean + radius * sine


@triton.jit
def disk64(even, odd, second_even, second_odd, radius, base, slope, TRUNCATED: tl.constexpr):
    signed_bits = (signed64(even, odd) * 4.656612873077393e-10).to(tl.uint64, bitcast=True)  # 2^-31
    v = (signed_bits & 0x7FFFFFFFFFFFFFFF).to(tl.float64, bitcast=True)
    if TRUNCATED:
        d = slope * v
        near = polynomial(NEAR64, 6, d) * d * 2.0
        far = squared_radius64(base + slope * (1.0 - v))
        size = radius * tl.sqrt(tl.where(d < 0.00390625, near, far))  # 2^-8
    else:
        size = radius * tl.sqrt(v)
    cosine, sine = turn64(second_even, second_odd, signed_bits & 0x8000000000000000)
    return size * cosine, size * sine


@triton.jit
def chosen64(c: tl.constexpr, k: tl.constexpr, is_centre, is_near):
    """The coefficient of the region that each element is in."""
    of_centre = tl.full(is_centre.shape, c[k], tl.float64)
    of_near = tl.full(is_centre.shape, c[8 + k], tl.float64)
    of_far = tl.full(is_centre.shape, c[16 + k], tl.float64)
    return tl.where(is_centre, of_centre, tl.where(is_near, of_near, of_far))


@triton.jit
def tail64(even, odd, mean, std, minimum, maximum, threshold, left, right, slope, base, centre):
    is_right = (even >> 1).to(tl.int32, bitcast=True) > threshold
    high = tl.where(is_right, even ^ 0xFFFFFFFF, even)
    low = tl.where(is_right, odd ^ 0xFFFFFFFF, odd)
    whole = whole64(high >> 1) * 2.0 + whole64(high & 1)
    rest = (whole64(low >> 1) + 0.5) * 4.656612873077393e-10  # 2^-31
    v = (whole + rest) * 2.3283064365386963e-10  # 2^-32
    tail = tl.where(is_right, right, left) + slope * v
    h = 0.5 - tail
    r = tl.sqrt((base + squared_radius64(tail)) * 0.5)
    is_centre = tail >= centre
    is_near = r <= 5.0
    x = tl.where(is_centre, 0.180625 - h * h, tl.where(is_near, r - 1.6, r - 5.0))
    above = tl.full(x.shape, 0.0, tl.float64)
    below = tl.full(x.shape, 0.0, tl.float64)
    for i in tl.static_range(8):
        above = above * x + chosen64(TAIL64_ABOVE, 7 - i, is_centre, is_near)
        below = below * x + chosen64(TAIL64_BELOW, 7 - i, is_centre, is_near)
    z = tl.where(is_centre, h, tl.full(x.shape, 1.0, tl.float64)) * above / below
    z = tl.where(z == 0.0, tl.full(x.shape, 5.421010862427522e-20, tl.float64), z)  # 2^-64
    return clamp(mean + std * tl.where(is_right, z, -z), minimum, maximum)


@triton.jit
def values64(
    even, odd, second_even, second_odd, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, TRANSFORM: tl.constexpr
):  # fmt: skip
    """As `values32`, of four words."""
    if TRANSFORM == "constant64":
        a = double(tl.full(even.shape, 0, tl.int64) + c0)
        b = a
    elif TRANSFORM == "uniform64":
        a = uniform64(even, odd, double(c0), double(c1), double(c2))
        b = uniform64(second_even, second_odd, double(c0), double(c1), double(c2))
    elif TRANSFORM == "normal64":
        a, b = normal64(even, odd, second_even, second_odd, double(c0), double(c1))
    elif TRANSFORM == "disk64":
        a, b = disk64(even, odd, second_even, second_odd, double(c0), 0.0, 0.0, False)
    elif TRANSFORM == "truncated_disk64":
        a, b = disk64(even, odd, second_even, second_odd, double(c0), double(c1), double(c2), True)
    else:
        tl.static_assert(TRANSFORM == "truncated64")
        a = tail64(
            even, odd, double(c0), double(c1), double(c2), double(c3), c4.to(tl.int32), double(c5), double(c6),
            double(c7), double(c8), double(c9),
        )  # fmt: skip
        b = tail64(
            second_even, second_odd, double(c0), double(c1), double(c2), double(c3), c4.to(tl.int32), double(c5),
            double(c6), double(c7), double(c8), double(c9),
        )  # fmt: skip
    return a, b


# ------------------------------------------------------------------------------------------------------------- rounding


@triton.jit
def narrow(value, MANTISSA: tl.constexpr, smallest_normal: tl.constexpr, aligner: tl.constexpr, bits: tl.constexpr):
    """As in transforms.pxi; `bits` are the aligner's."""
    magnitude = value.to(tl.uint32, bitcast=True)
    sign = magnitude & 0x80000000
    magnitude = magnitude ^ sign
    drop: tl.constexpr = 23 - MANTISSA
    normal = magnitude - smallest_normal + (1 << 23)
    normal = (normal + ((1 << (drop - 1)) - 1) + ((normal >> drop) & 1)) >> drop
    subnormal = (magnitude.to(tl.float32, bitcast=True) + aligner).to(tl.uint32, bitcast=True) - bits
    return tl.where(magnitude >= smallest_normal, normal, subnormal) | sign


@triton.jit
def rounded(value, STORE: tl.constexpr):
    """Rounded once, as integers of the width of the type; what is stored as it is stays so."""
    if STORE == "as_it_is":
        return value
    elif STORE == "bfloat16":
        # Triton's conversion is one instruction, but its interpreter truncates.
        bits = value.to(tl.uint32, bitcast=True)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.int16)
    elif STORE == "bfloat16_by_conversion":  # which bench/gpu.py measures beside it
        return value.to(tl.bfloat16).to(tl.int16, bitcast=True)
    elif STORE == "float16":
        bits = narrow(value, 10, 0x38800000, 0.5, 0x3F000000)
        return (bits | (bits >> 16)).to(tl.int16)
    elif STORE == "float8_e5m2":
        bits = narrow(value, 2, 0x38800000, 128.0, 0x43000000)
        return (bits | (bits >> 24)).to(tl.int8)
    else:
        tl.static_assert(STORE == "float8_e4m3fn")
        bits = narrow(value, 3, 0x3C800000, 16384.0, 0x46800000)
        return (bits | (bits >> 24)).to(tl.int8)


# --------------------------------------------------------------------------------------------------------------- groups


@triton.jit
def draw(
    low, high, seed, stream, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, TRANSFORM: tl.constexpr, STORE: tl.constexpr,
    BITS: tl.constexpr,
):  # fmt: skip
    """Two tensors of the values of some groups, rounded; `low`, `high`: the halves of their blocks' numbers, as uint32.

    Of each group all 8 blocks where a value takes one word, the first 4 where it takes two (`BITS` 64).
    """
    stream = wide(stream)
    seed = wide(seed)
    s0 = stream.to(tl.uint32)
    s1 = (stream >> 32).to(tl.uint32)
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    c0 = wide(c0)
    c1 = wide(c1)
    c2 = wide(c2)
    c3 = wide(c3)
    c4 = wide(c4)
    c5 = wide(c5)
    c6 = wide(c6)
    c7 = wide(c7)
    c8 = wide(c8)
    c9 = wide(c9)
    w0, w1, w2, w3 = philox(low, high, s0, s1, k0, k1)
    if BITS == 64:
        v0, v1, v2, v3 = philox(low + 4, high, s0, s1, k0, k1)
        a0, b0 = values64(w0, w1, v0, v1, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, TRANSFORM)
        a1, b1 = values64(w2, w3, v2, v3, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, TRANSFORM)
    else:
        a0, b0 = values32(w0, w1, c0, c1, c2, c3, c4, c5, c6, c7, c8, TRANSFORM)
        a1, b1 = values32(w2, w3, c0, c1, c2, c3, c4, c5, c6, c7, c8, TRANSFORM)
    return rounded(tl.interleave(a0, a1), STORE), rounded(tl.interleave(b0, b1), STORE)


@triton.jit
def places(TRANSFORM: tl.constexpr, BITS: tl.constexpr):
    """Where in a group the values of `draw` stand."""
    half: tl.constexpr = 512 // BITS
    first = tl.arange(0, half)
    if (
        (TRANSFORM == "disk32") or (TRANSFORM == "truncated_disk32") or (TRANSFORM == "disk64")
        or (TRANSFORM == "truncated_disk64")
    ):  # fmt: skip
        return 2 * first, 2 * first + 1
    else:
        return first, first + half


# -------------------------------------------------------------------------------------------------------------- kernels


@triton.jit(do_not_specialize=_RUN)
def fill_run(
    out, before: tl.int64, count: tl.int64, first_group: tl.int64, seed: tl.int64, stream: tl.int64,
    c0: tl.int64, c1: tl.int64, c2: tl.int64, c3: tl.int64, c4: tl.int64, c5: tl.int64, c6: tl.int64, c7: tl.int64,
    c8: tl.int64, c9: tl.int64,
    TRANSFORM: tl.constexpr, STORE: tl.constexpr, BITS: tl.constexpr, ALIGNED: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """Fill `count` neighbours in memory, which are neighbours in the global tensor.

    Each program makes a tile of GROUPS groups, the first from `first_group` on, a multiple of GROUPS, which is a power
    of two: so the blocks of a tile share the high half of their number. `before` elements of the first tile stand
    before `out`; ALIGNED: 16 times as many, so that Triton knows that vectors can be stored.
    """
    N: tl.constexpr = GROUPS * (1024 // BITS)
    LANES: tl.constexpr = 256 // BITS
    tile = tl.program_id(0).to(tl.int64)
    group = wide(first_group) + tile * GROUPS
    row = tl.arange(0, GROUPS)
    low = (group << 3).to(tl.uint32) + ((row * 8)[:, None] + tl.arange(0, LANES)[None, :]).to(tl.uint32)
    high = (group >> 29).to(tl.uint32)
    a, b = draw(
        low, high, seed, stream, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, TRANSFORM, STORE, BITS
    )  # fmt: skip
    first, second = places(TRANSFORM, BITS)
    start = tile * N - wide(before) * (16 if ALIGNED else 1)
    end = wide(count)
    out += start
    first = (row * (1024 // BITS))[:, None] + first[None, :]
    second = (row * (1024 // BITS))[:, None] + second[None, :]
    if (start >= 0) & (start + N <= end):
        tl.store(out + first, a)
        tl.store(out + second, b)
    else:
        tl.store(out + first, a, mask=(start + first >= 0) & (start + first < end))
        tl.store(out + second, b, mask=(start + second >= 0) & (start + second < end))


@triton.jit(do_not_specialize=_PANELS)
def fill_panels(
    out, row_list, padding: tl.int64, first: tl.int64, columns: tl.int64, column_stride: tl.int64, pieces: tl.int64,
    units: tl.int64, extent0: tl.int64, extent1: tl.int64, extent2: tl.int64, extent3: tl.int64,
    stride0: tl.int64, stride1: tl.int64, stride2: tl.int64, stride3: tl.int64,
    step0: tl.int64, step1: tl.int64, step2: tl.int64, step3: tl.int64, seed: tl.int64, stream: tl.int64,
    c0: tl.int64, c1: tl.int64, c2: tl.int64, c3: tl.int64, c4: tl.int64, c5: tl.int64, c6: tl.int64, c7: tl.int64,
    c8: tl.int64, c9: tl.int64,
    TRANSFORM: tl.constexpr, STORE: tl.constexpr, BITS: tl.constexpr, AXES: tl.constexpr, LISTED: tl.constexpr,
    ACROSS: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """Fill rows of `columns` neighbours of the global tensor, which may stand anywhere.

    AXES axes count the rows, the fastest first. Of axis i, `stride` is the distance in memory from one index to the
    next, `step` that in the global tensor; element `first` stands at `out`. LISTED: axis 0 is that of `row_list`, which
    says how many steps each of its indices is away, and row `padding` is 0.

    A row meets `pieces` groups of words at most, and each pair of a row and a piece is a unit of work. A program takes
    GROUPS units that follow each other; ACROSS: one piece of so many rows, neighbours in memory (`stride0` is 1).
    """
    SIZE: tl.constexpr = 1024 // BITS
    SHIFT: tl.constexpr = 5 if BITS == 32 else 4
    LANES: tl.constexpr = 256 // BITS
    if ACROSS:
        # A scalar each, but for the rows.
        rows = wide(extent0).to(tl.int32)
        tiles = (rows - 1) // GROUPS + 1
        rest = tl.program_id(0) // tiles
        row = (tl.program_id(0) % tiles) * GROUPS + tl.arange(0, GROUPS)
        there = row < rows
        piece = rest % wide(pieces).to(tl.int32)
        rest = rest // wide(pieces).to(tl.int32)
        position = row.to(tl.int64)
    else:
        unit = tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
        there = unit < wide(units).to(tl.int32)
        piece = unit % wide(pieces).to(tl.int32)
        rest = unit // wide(pieces).to(tl.int32)
        row = rest % wide(extent0).to(tl.int32)
        rest = rest // wide(extent0).to(tl.int32)
        position = row.to(tl.int64) * wide(stride0)
    if LISTED:
        listed = tl.load(row_list + row, mask=there, other=0)
        start = wide(first) + listed * wide(step0)
    else:
        start = wide(first) + row.to(tl.int64) * wide(step0)
    if AXES > 1:
        index = rest % wide(extent1).to(tl.int32)
        rest = rest // wide(extent1).to(tl.int32)
        position += index.to(tl.int64) * wide(stride1)
        start += index.to(tl.int64) * wide(step1)
    if AXES > 2:
        index = rest % wide(extent2).to(tl.int32)
        rest = rest // wide(extent2).to(tl.int32)
        position += index.to(tl.int64) * wide(stride2)
        start += index.to(tl.int64) * wide(step2)
    if AXES > 3:
        index = rest % wide(extent3).to(tl.int32)
        position += index.to(tl.int64) * wide(stride3)
        start += index.to(tl.int64) * wide(step3)
    group = (start >> SHIFT) + piece
    block = (group * 8)[:, None] + tl.arange(0, LANES)[None, :]
    a, b = draw(
        block.to(tl.uint32), (block >> 32).to(tl.uint32), seed, stream, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9,
        TRANSFORM, STORE, BITS,
    )  # fmt: skip
    if LISTED:
        is_padding = (listed == wide(padding))[:, None]
        a = tl.where(is_padding, tl.full(a.shape, 0, a.dtype), a)
        b = tl.where(is_padding, tl.full(b.shape, 0, b.dtype), b)
    here, other = places(TRANSFORM, BITS)
    before = (group * SIZE - start)[:, None]
    here = before + here[None, :]
    other = before + other[None, :]
    out += position[:, None]
    there = there[:, None]
    tl.store(out + here * wide(column_stride), a, mask=there & (here >= 0) & (here < wide(columns)))
    tl.store(out + other * wide(column_stride), b, mask=there & (other >= 0) & (other < wide(columns)))
