# How words become values: STREAM.md, sections 4 to 6, operation by operation.
#
# (a) Point functions turn the words of one element, or of a pair, into numbers. They are plain C: + - * /, sqrt, integer
#     operations and conversions from signed 32-bit integers, each rounded once; nothing that a libm or an FMA decides.
# (b) A transform turns one batch of words (rows `even` and `odd` of 8 groups, see philox.h) into 256 floats or 128
#     doubles, and puts those of each group where `out` says. Its loops run over a row of 16 so that the compiler makes
#     them one AVX-512 vector, two of AVX2, four of SSE2 or NEON; branches are selects.
# (c) `store_*` round a batch of floats once to a narrower type.

from libc.math cimport sqrt, sqrtf
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from "floating_point.h" nogil:
    uint32_t bits_of_float(float value)
    float float_of_bits(uint32_t bits)
    uint64_t bits_of_double(double value)
    double double_of_bits(uint64_t bits)
    const uint32_t FLOAT_SIGN, FLOAT_MAGNITUDE
    const uint64_t DOUBLE_SIGN, DOUBLE_MAGNITUDE

cdef extern from "coefficients.h" nogil:
    const float LOG32[7]
    const float SIN32[5]
    const float COS32[4]
    const float CENTRE32_EDGE
    const float CENTRE32_ABOVE[5]
    const float CENTRE32_BELOW[4]
    const float TAIL32_NEAR_ABOVE[5]
    const float TAIL32_NEAR_BELOW[4]
    const float TAIL32_FAR_ABOVE[5]
    const float TAIL32_FAR_BELOW[4]
    const double LOG64[8]
    const double SIN64[9]
    const double COS64[9]
    const double NEAR64[7]
    const double TAIL64_ABOVE[3][8]
    const double TAIL64_BELOW[3][8]

from winit_fast._plan cimport (
    BATCH, CENTRE_MAXIMUM, CENTRE_MEAN, CENTRE_MINIMUM, CENTRE_SCALE, CENTRE_STD, CONSTANT_VALUE, DISK_BASE, DISK_RADIUS,
    DISK_SLOPE, GROUPS, NORMAL_MEAN, NORMAL_STD, ROW, TRUNCATED_BASE, TRUNCATED_LEFT, TRUNCATED_MAXIMUM, TRUNCATED_MEAN,
    TRUNCATED_MEDIAN, TRUNCATED_MINIMUM, TRUNCATED_RIGHT, TRUNCATED_SLOPE, TRUNCATED_STD, TRUNCATED_THRESHOLD,
    UNIFORM_LOW, UNIFORM_MAXIMUM, UNIFORM_WIDTH)


# ---------------------------------------------------------------------------------------------------------------- float32

cdef inline float squared_radius32(uint32_t bits, uint32_t bits_of_one) noexcept nogil:
    """-2 ln(x) for the float32 x with these bits, where `bits_of_one` are those of the number whose logarithm is 0.

    The bits of a float, read as an integer, are a piecewise linear logarithm; the polynomial in g = 2 - mantissa adds
    the rest. It vanishes at g = 0, so that the result is accurate relative to its size as x comes to 1 from below.
    """
    cdef float linear = <float> <int32_t> (bits_of_one - bits)
    cdef float g = <float> 2.0 - float_of_bits((bits & 0x007FFFFF) | 0x3F800000)
    cdef float rest = LOG32[6]
    rest = rest * g + LOG32[5]
    rest = rest * g + LOG32[4]
    rest = rest * g + LOG32[3]
    rest = rest * g + LOG32[2]
    rest = rest * g + LOG32[1]
    rest = rest * g + LOG32[0]
    return linear * <float> 1.6525917e-07 + rest * g  # 2 ln 2 / 2^23


cdef inline float sine32(float x, float y) noexcept nogil:
    """sin(pi/2 x), y = x * x."""
    cdef float value = SIN32[4]
    value = value * y + SIN32[3]
    value = value * y + SIN32[2]
    value = value * y + SIN32[1]
    value = value * y + SIN32[0]
    return value * x


cdef inline float cosine32(float y) noexcept nogil:
    """cos(pi/2 x), y = x * x; never 0 where y < 1."""
    cdef float value = COS32[3]
    value = value * y + COS32[2]
    value = value * y + COS32[1]
    value = value * y + COS32[0]
    return value * (<float> 1.0 - y)


cdef inline float polynomial4(float x, const float* c) noexcept nogil:
    return (((c[4] * x + c[3]) * x + c[2]) * x + c[1]) * x + c[0]


cdef inline float polynomial3(float x, const float* c) noexcept nogil:
    return ((c[3] * x + c[2]) * x + c[1]) * x + c[0]


cdef inline float clamp32(float value, float minimum, float maximum) noexcept nogil:
    value = value if value > minimum else minimum
    return value if value < maximum else maximum


cdef inline float quantile32(
    uint32_t word, int32_t threshold, float left, float right, float slope, float base, bint far
) noexcept nogil:
    """The z whose probability in the nearer tail is exp(-base / 2) * (left or right + slope * v)."""
    cdef bint is_right = <int32_t> (word >> 1) > threshold
    cdef uint32_t counted = ~word if is_right else word
    cdef float high = <float> <int32_t> (counted >> 16)
    cdef float low = (<float> <int32_t> (counted & 0xFFFF) + <float> 0.5) * <float> 1.52587890625e-05  # 2^-16
    cdef float v = (high + low) * <float> 1.52587890625e-05
    cdef float tail = (right if is_right else left) + slope * v
    cdef float t = sqrtf(base + squared_radius32(bits_of_float(tail), 0x3F800000))
    cdef float z
    if far:
        z = polynomial4(t, TAIL32_FAR_ABOVE) / polynomial3(t, TAIL32_FAR_BELOW)
    else:
        z = polynomial4(t, TAIL32_NEAR_ABOVE) / polynomial3(t, TAIL32_NEAR_BELOW)
    # The side is known, so that what rounds to 0 or beyond is nearly 0: 2^-64, as no normal is 0.
    z = z if z > <float> 5.421010862427522e-20 else <float> 5.421010862427522e-20
    return z if is_right else -z


cdef inline void scaled_uniform32(
    const uint32_t* even, const uint32_t* odd, float low, float scale, float width, float maximum, char** out
) noexcept nogil:
    cdef float* values
    cdef float value
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(ROW):
            value = low + width * (<float> <int32_t> (even[group * ROW + k] >> 8) * scale)
            values[k] = value if value < maximum else maximum
        for k in range(ROW):
            value = low + width * (<float> <int32_t> (odd[group * ROW + k] >> 8) * scale)
            values[ROW + k] = value if value < maximum else maximum


cdef void uniform32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    cdef float low = <float> constants[UNIFORM_LOW], width = <float> constants[UNIFORM_WIDTH]
    cdef float maximum = <float> constants[UNIFORM_MAXIMUM]
    cdef float scale = <float> 5.9604644775390625e-08  # 2^-24
    if width * scale / scale == width:  # exact: one multiplication gives the same product as two
        scaled_uniform32(even, odd, low, 1.0, width * scale, maximum, out)
    else:
        scaled_uniform32(even, odd, low, scale, width, maximum, out)


cdef void normal32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    """Box and Muller (1958): the sign of the first of the pair is that of its word, the angle covers half a turn."""
    cdef float mean = <float> constants[NORMAL_MEAN], std = <float> constants[NORMAL_STD]
    cdef float* values
    cdef float x, y, radius, cosine
    cdef uint32_t signed_bits
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(ROW):
            # One less: the next float32 towards 0. So u stays below 1, and the radius is never 0.
            signed_bits = bits_of_float(<float> <int32_t> (even[group * ROW + k] | 1)) - 1
            radius = std * sqrtf(squared_radius32(signed_bits & FLOAT_MAGNITUDE, 0x4F000000))
            x = <float> <int32_t> (odd[group * ROW + k] | 1) * <float> 4.656612595521636e-10  # 2^-31 - 2^-55
            y = x * x
            cosine = float_of_bits(bits_of_float(cosine32(y)) ^ (signed_bits & FLOAT_SIGN))
            values[k] = mean + radius * cosine
            values[ROW + k] = mean + radius * sine32(x, y)


cdef void truncated_centre32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    """Bounds -b and b, b <= 2: the quantile is x times a rational in x * x; a pair of elements shares one division."""
    cdef float mean = <float> constants[CENTRE_MEAN], std = <float> constants[CENTRE_STD], scale = <float> constants[CENTRE_SCALE]
    cdef float minimum = <float> constants[CENTRE_MINIMUM], maximum = <float> constants[CENTRE_MAXIMUM]
    cdef float* values
    cdef float x0, x1, t0, t1, below0, below1, inverse
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(ROW):
            x0 = <float> <int32_t> (even[group * ROW + k] | 1) * scale
            x1 = <float> <int32_t> (odd[group * ROW + k] | 1) * scale
            t0 = CENTRE32_EDGE - x0 * x0
            t1 = CENTRE32_EDGE - x1 * x1
            below0 = polynomial3(t0, CENTRE32_BELOW)
            below1 = polynomial3(t1, CENTRE32_BELOW)
            inverse = <float> 1.0 / (below0 * below1)
            x0 = x0 * polynomial4(t0, CENTRE32_ABOVE) * (below1 * inverse)
            x1 = x1 * polynomial4(t1, CENTRE32_ABOVE) * (below0 * inverse)
            values[k] = clamp32(mean + std * x0, minimum, maximum)
            values[ROW + k] = clamp32(mean + std * x1, minimum, maximum)


cdef inline void complex32(
    const uint32_t* even, const uint32_t* odd, float radius, float base, float slope, char** out, bint normal
) noexcept nogil:
    """Complex numbers in a disk: the angle as in normal32, the radius that of a uniform or of a truncated normal."""
    cdef float* values
    cdef float x, y, v, d, near, far, size, cosine
    cdef uint32_t signed_bits
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(ROW):
            signed_bits = bits_of_float(<float> <int32_t> (even[group * ROW + k] | 1)) - 1
            v = float_of_bits(signed_bits & FLOAT_MAGNITUDE) * <float> 4.656612873077393e-10  # 2^-31
            if normal:
                # -2 ln(1 - d); where d is small the sum would lose it.
                d = slope * v
                near = (d + d * d * (<float> 0.5 + d * <float> 0.33333334)) * <float> 2.0
                far = squared_radius32(bits_of_float(base + slope * (<float> 1.0 - v)), 0x3F800000)
                size = radius * sqrtf(near if d < <float> 0.0009765625 else far)  # 2^-10
            else:
                size = radius * sqrtf(v)
            x = <float> <int32_t> (odd[group * ROW + k] | 1) * <float> 4.656612595521636e-10  # 2^-31 - 2^-55
            y = x * x
            cosine = float_of_bits(bits_of_float(cosine32(y)) ^ (signed_bits & FLOAT_SIGN))
            values[2 * k] = size * cosine
            values[2 * k + 1] = size * sine32(x, y)


cdef void disk32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    complex32(even, odd, <float> constants[DISK_RADIUS], 0, 0, out, False)


cdef void truncated_disk32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    """|z|^2 is exponential, cut at 4: the inverse of its distribution is -ln(e^-4 + (1 - e^-4) (1 - v))."""
    complex32(
        even, odd, <float> constants[DISK_RADIUS], <float> constants[DISK_BASE], <float> constants[DISK_SLOPE], out, True)


cdef inline void truncated_any32(
    const uint32_t* even, const uint32_t* odd, const double* constants, char** out, bint far
) noexcept nogil:
    cdef float mean = <float> constants[TRUNCATED_MEAN], std = <float> constants[TRUNCATED_STD]
    cdef float minimum = <float> constants[TRUNCATED_MINIMUM], maximum = <float> constants[TRUNCATED_MAXIMUM]
    cdef int32_t threshold = <int32_t> constants[TRUNCATED_THRESHOLD]
    cdef float left = <float> constants[TRUNCATED_LEFT], right = <float> constants[TRUNCATED_RIGHT]
    cdef float slope = <float> constants[TRUNCATED_SLOPE], base = <float> constants[TRUNCATED_BASE]
    cdef float* values
    cdef float z
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(ROW):
            z = quantile32(even[group * ROW + k], threshold, left, right, slope, base, far)
            values[k] = clamp32(mean + std * z, minimum, maximum)
        for k in range(ROW):
            z = quantile32(odd[group * ROW + k], threshold, left, right, slope, base, far)
            values[ROW + k] = clamp32(mean + std * z, minimum, maximum)


cdef void truncated_near32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    truncated_any32(even, odd, constants, out, False)


cdef void truncated_far32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    truncated_any32(even, odd, constants, out, True)


# ---------------------------------------------------------------------------------------------------------------- float64

cdef inline double squared_radius64(double x) noexcept nogil:
    """-2 ln(x), x > 0 and normal: x = 2^e * m, m in [sqrt(1/2), sqrt(2)), and the odd series of atanh in (m-1)/(m+1)."""
    # 0x3FE6A09E00000000 is just below sqrt(1/2); 1023 is added to e so that no shift meets a negative number.
    cdef uint64_t shifted = bits_of_double(x) - <uint64_t> 0x3FE6A09E00000000 + <uint64_t> 0x3FF0000000000000
    # An integer below 2^52 becomes a double by standing in the mantissa of 2^52: AVX2 cannot convert 64-bit integers.
    cdef double e = double_of_bits((shifted >> 52) | <uint64_t> 0x4330000000000000) - 4503599627371519.0  # 2^52 + 1023
    cdef double m = double_of_bits(
        bits_of_double(x) - (shifted & <uint64_t> 0xFFF0000000000000) + <uint64_t> 0x3FF0000000000000
    )
    cdef double s = (m - 1.0) / (m + 1.0)
    cdef double z = s * s
    cdef double series = LOG64[7]
    series = series * z + LOG64[6]
    series = series * z + LOG64[5]
    series = series * z + LOG64[4]
    series = series * z + LOG64[3]
    series = series * z + LOG64[2]
    series = series * z + LOG64[1]
    series = series * z + LOG64[0]
    return e * -1.3862943611198906 + s * series  # -2 ln 2


cdef inline double polynomial8(double x, const double* c) noexcept nogil:
    cdef double value = c[8]
    value = value * x + c[7]
    value = value * x + c[6]
    value = value * x + c[5]
    value = value * x + c[4]
    value = value * x + c[3]
    value = value * x + c[2]
    value = value * x + c[1]
    return value * x + c[0]


cdef inline double polynomial6(double x, const double* c) noexcept nogil:
    return (((((c[6] * x + c[5]) * x + c[4]) * x + c[3]) * x + c[2]) * x + c[1]) * x + c[0]


cdef inline double signed64(uint32_t even, uint32_t odd) noexcept nogil:
    """A number of (-2^31, 2^31), never 0: the first word as a signed integer, the upper half of the second behind it."""
    return <double> <int32_t> even + (<double> <int32_t> (odd >> 1) + 0.5) * 4.656612873077393e-10  # 2^-31


cdef inline double quantile64(
    uint32_t even, uint32_t odd, int32_t threshold, double left, double right, double slope, double base, double centre
) noexcept nogil:
    """As quantile32, by Wichura's PPND16 (AS 241); `centre` is the tail probability from which its first row holds."""
    cdef bint is_right = <int32_t> (even >> 1) > threshold
    cdef uint32_t high = ~even if is_right else even
    cdef uint32_t low = ~odd if is_right else odd
    cdef double whole = <double> <int32_t> (high >> 1) * 2.0 + <double> <int32_t> (high & 1)
    cdef double rest = (<double> <int32_t> (low >> 1) + 0.5) * 4.656612873077393e-10  # 2^-31
    cdef double v = (whole + rest) * 2.3283064365386963e-10  # 2^-32
    cdef double tail = (right if is_right else left) + slope * v
    cdef double h = 0.5 - tail
    cdef double r = sqrt((base + squared_radius64(tail)) * 0.5)
    cdef bint is_centre = tail >= centre, is_near = r <= 5.0
    cdef double x = 0.180625 - h * h if is_centre else (r - 1.6 if is_near else r - 5.0)
    cdef double above = 0.0, below = 0.0, z
    cdef int k
    for k in range(7, -1, -1):
        above = above * x + (
            TAIL64_ABOVE[0][k] if is_centre else (TAIL64_ABOVE[1][k] if is_near else TAIL64_ABOVE[2][k]))
        below = below * x + (
            TAIL64_BELOW[0][k] if is_centre else (TAIL64_BELOW[1][k] if is_near else TAIL64_BELOW[2][k]))
    z = (h if is_centre else 1.0) * above / below
    z = 5.421010862427522e-20 if z == 0 else z  # 2^-64
    return z if is_right else -z


cdef inline double clamp64(double value, double minimum, double maximum) noexcept nogil:
    value = value if value > minimum else minimum
    return value if value < maximum else maximum


cdef void uniform64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    cdef double low = constants[UNIFORM_LOW], width = constants[UNIFORM_WIDTH], maximum = constants[UNIFORM_MAXIMUM]
    cdef double* values
    cdef double u, value
    cdef int group, k
    for group in range(GROUPS):
        values = <double*> out[group]
        for k in range(ROW):
            # 27 bits and 26
            u = (<double> <int32_t> (even[group * ROW + k] >> 5) * 67108864.0
                 + <double> <int32_t> (odd[group * ROW + k] >> 6))
            value = low + width * (u * 1.1102230246251565e-16)  # 2^-53
            values[k] = value if value < maximum else maximum


cdef void normal64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    """As normal32; the pair is element k of the group's first half and element k of its second."""
    cdef double mean = constants[NORMAL_MEAN], std = constants[NORMAL_STD]
    cdef double* values
    cdef double x, y, radius, cosine
    cdef uint64_t signed_bits
    cdef int group, k, first
    for group in range(GROUPS):
        values = <double*> out[group]
        for k in range(ROW // 2):
            first = group * ROW + k
            signed_bits = bits_of_double(signed64(even[first], odd[first]) * 4.656612873077393e-10)  # 2^-31
            radius = std * sqrt(
                squared_radius64(double_of_bits(signed_bits & DOUBLE_MAGNITUDE)) + 2.220446049250313e-16)
            # 2^-31 - 2^-84: x stays below 1, so that the cosine is never 0.
            x = signed64(even[first + ROW // 2], odd[first + ROW // 2]) * 4.656612873077392e-10
            y = x * x
            cosine = double_of_bits(
                bits_of_double(polynomial8(y, COS64) * (1.0 - y)) ^ (signed_bits & DOUBLE_SIGN))
            values[k] = mean + radius * cosine
            values[k + ROW // 2] = mean + radius * (polynomial8(y, SIN64) * x)


cdef inline void complex64(
    const uint32_t* even, const uint32_t* odd, double radius, double base, double slope, char** out, bint normal
) noexcept nogil:
    """As complex32, with the words of normal64."""
    cdef double* values
    cdef double x, y, v, d, near, far, size, cosine
    cdef uint64_t signed_bits
    cdef int group, k, first
    for group in range(GROUPS):
        values = <double*> out[group]
        for k in range(ROW // 2):
            first = group * ROW + k
            signed_bits = bits_of_double(signed64(even[first], odd[first]) * 4.656612873077393e-10)  # 2^-31
            v = double_of_bits(signed_bits & DOUBLE_MAGNITUDE)
            if normal:
                d = slope * v
                near = polynomial6(d, NEAR64) * d * 2.0
                far = squared_radius64(base + slope * (1.0 - v))
                size = radius * sqrt(near if d < 0.00390625 else far)  # 2^-8
            else:
                size = radius * sqrt(v)
            x = signed64(even[first + ROW // 2], odd[first + ROW // 2]) * 4.656612873077392e-10  # 2^-31 - 2^-84
            y = x * x
            cosine = double_of_bits(
                bits_of_double(polynomial8(y, COS64) * (1.0 - y)) ^ (signed_bits & DOUBLE_SIGN))
            values[2 * k] = size * cosine
            values[2 * k + 1] = size * (polynomial8(y, SIN64) * x)


cdef void disk64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    complex64(even, odd, constants[DISK_RADIUS], 0, 0, out, False)


cdef void truncated_disk64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    complex64(even, odd, constants[DISK_RADIUS], constants[DISK_BASE], constants[DISK_SLOPE], out, True)


cdef void truncated64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    cdef double mean = constants[TRUNCATED_MEAN], std = constants[TRUNCATED_STD]
    cdef double minimum = constants[TRUNCATED_MINIMUM], maximum = constants[TRUNCATED_MAXIMUM]
    cdef int32_t threshold = <int32_t> constants[TRUNCATED_THRESHOLD]
    cdef double left = constants[TRUNCATED_LEFT], right = constants[TRUNCATED_RIGHT]
    cdef double slope = constants[TRUNCATED_SLOPE], base = constants[TRUNCATED_BASE]
    cdef double centre = constants[TRUNCATED_MEDIAN]
    cdef double* values
    cdef double z
    cdef int group, k
    for group in range(GROUPS):
        values = <double*> out[group]
        for k in range(ROW):
            z = quantile64(
                even[group * ROW + k], odd[group * ROW + k], threshold, left, right, slope, base, centre)
            values[k] = clamp64(mean + std * z, minimum, maximum)


# ------------------------------------------------------------------------------------------- words, constants and rounding

cdef void words32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    """The words themselves, in stream order."""
    cdef uint32_t words[BATCH]
    cdef int group, k
    for k in range(GROUPS * ROW):
        words[2 * k] = even[k]
        words[2 * k + 1] = odd[k]
    for group in range(GROUPS):
        memcpy(out[group], &words[2 * ROW * group], 2 * ROW * sizeof(uint32_t))


cdef void constant32(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    cdef float* values
    cdef int group, k
    for group in range(GROUPS):
        values = <float*> out[group]
        for k in range(2 * ROW):
            values[k] = <float> constants[CONSTANT_VALUE]


cdef void constant64(const uint32_t* even, const uint32_t* odd, const double* constants, char** out) noexcept nogil:
    cdef double* values
    cdef int group, k
    for group in range(GROUPS):
        values = <double*> out[group]
        for k in range(ROW):
            values[k] = constants[CONSTANT_VALUE]


cdef void store_bfloat16(const float* values, char** out) noexcept nogil:
    cdef uint16_t* rounded
    cdef uint32_t bits
    cdef int group, k
    for group in range(GROUPS):
        rounded = <uint16_t*> out[group]
        for k in range(2 * ROW):
            bits = bits_of_float(values[2 * group * ROW + k])
            rounded[k] = <uint16_t> ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)


cdef inline uint32_t narrow(float value, int mantissa, uint32_t smallest_normal, float aligner) noexcept nogil:
    """Round to a type with a smaller exponent too, to nearest, ties to even; sign in bit 31, the rest from bit 0.

    `smallest_normal` are the bits of the type's smallest normal number as a float32. Below it the type is a fixed-point
    lattice: adding `aligner`, whose last mantissa bit weighs one lattice step, makes the adder round to that lattice.
    """
    cdef uint32_t bits = bits_of_float(value)
    cdef uint32_t sign = bits & FLOAT_SIGN
    cdef uint32_t magnitude = bits ^ sign
    cdef int drop = 23 - mantissa
    cdef uint32_t normal = magnitude - smallest_normal + (<uint32_t> 1 << 23)
    normal = (normal + ((<uint32_t> 1 << (drop - 1)) - 1) + ((normal >> drop) & 1)) >> drop
    cdef uint32_t subnormal = bits_of_float(float_of_bits(magnitude) + aligner) - bits_of_float(aligner)
    return (normal if magnitude >= smallest_normal else subnormal) | sign


cdef void store_float16(const float* values, char** out) noexcept nogil:
    cdef uint16_t* rounded
    cdef uint32_t bits
    cdef int group, k
    for group in range(GROUPS):
        rounded = <uint16_t*> out[group]
        for k in range(2 * ROW):
            bits = narrow(values[2 * group * ROW + k], 10, 0x38800000, 0.5)  # 2^-14; steps of 2^-24
            rounded[k] = <uint16_t> (bits | (bits >> 16))


cdef void store_float8_e5m2(const float* values, char** out) noexcept nogil:
    cdef uint8_t* rounded
    cdef uint32_t bits
    cdef int group, k
    for group in range(GROUPS):
        rounded = <uint8_t*> out[group]
        for k in range(2 * ROW):
            bits = narrow(values[2 * group * ROW + k], 2, 0x38800000, 128.0)  # 2^-14; steps of 2^-16
            rounded[k] = <uint8_t> (bits | (bits >> 24))


cdef void store_float8_e4m3fn(const float* values, char** out) noexcept nogil:
    cdef uint8_t* rounded
    cdef uint32_t bits
    cdef int group, k
    for group in range(GROUPS):
        rounded = <uint8_t*> out[group]
        for k in range(2 * ROW):
            bits = narrow(values[2 * group * ROW + k], 3, 0x3C800000, 16384.0)  # 2^-6; steps of 2^-9
            rounded[k] = <uint8_t> (bits | (bits >> 24))
