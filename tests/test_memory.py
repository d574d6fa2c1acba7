"""Peak memory of a fill: the array, and a constant."""

import sys

import pytest
from large import ARITHMETIC, KINDS, WITH_BUFFERS
from processes import ON_TWO_CPUS, printed

from winit_fast import schemes

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
count = (ARRAY_MIB << 20) // dtype.itemsize
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
        *((dtype, "plain") for dtype in ("float32", "float64", "bfloat16", "float8_e5m2")),
        *(pytest.param(dtype, "plain", marks=pytest.mark.exhaustive) for dtype in ("float16", "float8_e4m3fn")),
        ("float32", "aligned"),
        ("bfloat16", "strided"),
        ("float32", "transposed"),
        ("float64", "region"),
        ("float16", "rows"),
    ],
)
def test_filling_takes_no_more_than_the_array_and_32_mib(dtype, kind):
    settings = f"DTYPE, KIND, ARRAY_MIB = {dtype!r}, {kind!r}, {ARRAY_MIB}\n"
    grown_mib = int(printed(settings + ON_TWO_CPUS + MEASURE, WINIT_FAST_THREADS="2")) / 1024
    assert ARRAY_MIB * 0.9 < grown_mib <= ARRAY_MIB + MOST_BESIDE_IT_MIB


# Every scheme, however it is asked for

SWEEP_MIB = 1024
SAMPLE_MIB = 96
BUFFERS_MIB = 64  # two of orthogonal's, and what its threads have

EACH = """
import os
from contextlib import suppress
import numpy as np
from large import prepared, tensors
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
memory = np.ones((2 if "strided" in KINDS else 1) * MIB << 18, "float32")
for kind in KINDS:
    for (name, case), (_, small) in zip(tensors(MIB << 18).items(), tensors(1 << 14).items()):
        if NAMES is not None and name not in NAMES or name in LEFT_OUT:
            continue
        with suppress(ValueError):  # not every scheme takes every way
            prepared(kind, small, memory)()  # what it imports
            work = prepared(kind, case, memory)
            with suppress(OSError), open("/proc/self/clear_refs", "w") as reset:
                reset.write("5")
            before = peak()
            work()
            print(f"{kind}={name}={peak() - before}")
"""


def assert_nothing_grows(kinds, mib, names, left_out):
    """In one process for all kinds; what was measured of each."""
    settings = f"KINDS, MIB, NAMES, LEFT_OUT = {kinds!r}, {mib}, {names!r}, {left_out!r}\n"
    lines = printed(settings + ON_TWO_CPUS + EACH, WINIT_FAST_THREADS="2").splitlines()
    grown = {(kind, name): int(kib) / 1024 for kind, name, kib in (line.split("=") for line in lines)}
    too_much = {
        (kind, name): mib
        for (kind, name), mib in grown.items()
        if mib > MOST_BESIDE_IT_MIB + BUFFERS_MIB * (name.split(":")[0] in WITH_BUFFERS)
    }
    assert not too_much
    return {kind: {name for other, name in grown if other == kind} for kind in kinds}


def test_every_scheme_takes_no_more_than_the_array_and_a_constant():
    measured = assert_nothing_grows(["plain", "rows"], SAMPLE_MIB, None, ARITHMETIC)
    every = {entry.name for entry in schemes()} - {"convolution_orthogonal"}
    assert all(every <= names for names in measured.values())


SOME = ["normal", "lstm_bias", "array", "array: 64 rows", "dirac: groups", "identity: stack", "sparse"]


@pytest.mark.parametrize(
    "names", [pytest.param(SOME, id="some"), pytest.param(None, id="all", marks=pytest.mark.exhaustive)]
)
def test_however_it_is_asked_for_a_scheme_takes_no_more_than_the_array_and_a_constant(names):
    kinds = [kind for kind in KINDS if kind not in ("plain", "rows")]
    measured = assert_nothing_grows(kinds, SAMPLE_MIB, names, ARITHMETIC)
    assert all("normal" in found for found in measured.values())


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
def test_every_scheme_takes_no_more_than_a_gib_and_a_constant_however_it_is_asked_for(kind):
    assert assert_nothing_grows([kind], SWEEP_MIB, None, ARITHMETIC)[kind]


@pytest.mark.sweep
@pytest.mark.parametrize("kind", ["plain", "rows"])
def test_schemes_of_much_arithmetic_take_no_more_than_the_array_and_a_constant(kind):
    assert assert_nothing_grows([kind], 128, ARITHMETIC, [])[kind]
