# The kernels compiled for AVX2.
include "kernels.pxi"
