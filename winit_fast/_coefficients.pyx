"""The numbers of include/coefficients.h, for kernels that no C compiler reads."""

cdef extern from "coefficients.h":
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


cdef tuple singles(const float* numbers, int count):
    return tuple([numbers[i] for i in range(count)])


cdef tuple doubles(const double* numbers, int count):
    return tuple([numbers[i] for i in range(count)])


def coefficients() -> dict:
    """Each polynomial's coefficients under its name, lowest power first; those of float32 are such numbers exactly."""
    return {
        "LOG32": singles(LOG32, 7),
        "SIN32": singles(SIN32, 5),
        "COS32": singles(COS32, 4),
        "CENTRE32_EDGE": (CENTRE32_EDGE,),
        "CENTRE32_ABOVE": singles(CENTRE32_ABOVE, 5),
        "CENTRE32_BELOW": singles(CENTRE32_BELOW, 4),
        "TAIL32_NEAR_ABOVE": singles(TAIL32_NEAR_ABOVE, 5),
        "TAIL32_NEAR_BELOW": singles(TAIL32_NEAR_BELOW, 4),
        "TAIL32_FAR_ABOVE": singles(TAIL32_FAR_ABOVE, 5),
        "TAIL32_FAR_BELOW": singles(TAIL32_FAR_BELOW, 4),
        "LOG64": doubles(LOG64, 8),
        "SIN64": doubles(SIN64, 9),
        "COS64": doubles(COS64, 9),
        "NEAR64": doubles(NEAR64, 7),
        "TAIL64_ABOVE": doubles(TAIL64_ABOVE[0], 24),
        "TAIL64_BELOW": doubles(TAIL64_BELOW[0], 24),
    }
