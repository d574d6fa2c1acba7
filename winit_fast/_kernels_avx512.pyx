# The kernels compiled for AVX-512 F, BW, DQ and VL.
include "kernels.pxi"
