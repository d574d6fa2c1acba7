"""Peak memory of a fill: the array, and a constant."""

import sys

import pytest
from arrays import DTYPES, printed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")

ARRAY_MIB = 512
MOST_BESIDE_IT_MIB = 32

MEASURE = """
import numpy as np
from arrays import DTYPES
from winit_fast import empty, fill, fill_rows
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
dtype = DTYPES[DTYPE]
count = (512 << 20) // dtype.itemsize
columns = 1024 // dtype.itemsize
rows = count // columns
row_list = np.arange(rows)[::-1].copy() if KIND == "rows" else None
fill(np.empty((3, 5), dtype), "normal(std=0.01)", seed=1)
before = peak()
if KIND == "plain":
    out = np.empty((rows, columns), dtype)
    fill(out, "normal(std=0.01)", seed=1)
elif KIND == "aligned":
    out = empty((rows, columns), dtype)
    fill(out, "truncated_normal(std=0.01)", seed=1)
elif KIND == "transposed":
    out = np.empty((columns, rows), dtype)
    fill(out.T, "normal(std=0.01)", seed=1)
elif KIND == "strided":
    out = np.empty((rows, columns), dtype)
    fill(out[:, 1::2], "normal(std=0.01)", seed=1)
    fill(out[::-1, ::-2], "normal(std=0.01)", seed=1)
elif KIND == "region":
    out = np.empty((rows, columns), dtype)
    fill(out, "he_normal", seed=1, shape=(1 << 30, 2 * columns), offset=(12345, 7))
elif KIND == "rows":
    out = np.empty((rows, columns), dtype)
    fill_rows(out, row_list, "normal(std=0.01)", seed=1, shape=(rows, columns))
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        *((dtype, "plain") for dtype in DTYPES),
        ("float32", "aligned"),
        ("bfloat16", "strided"),
        ("float32", "transposed"),
        ("float64", "region"),
        ("float16", "rows"),
    ],
)
def test_filling_takes_no_more_than_the_array_and_32_mib(dtype, kind):
    grown_mib = int(printed(f"DTYPE, KIND = {dtype!r}, {kind!r}\n" + MEASURE, WINIT_FAST_THREADS="2")) / 1024
    assert ARRAY_MIB * 0.9 < grown_mib <= ARRAY_MIB + MOST_BESIDE_IT_MIB
