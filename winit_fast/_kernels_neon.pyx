# The kernels compiled for NEON of AArch64.
include "kernels.pxi"
