# The kernels compiled for SSE2 on x86-64, portable C elsewhere.
include "kernels.pxi"
