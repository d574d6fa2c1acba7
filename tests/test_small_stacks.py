"""Threads with a small stack: musl's have 128 KiB by default, and a program may ask for less."""

import pytest
from processes import printed

CODE = """
import _thread, threading
import numpy as np
from winit_fast import fill, fill_rows

def run(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()

try:
    _thread.stack_size(1 << 16)
except ValueError:  # this Python wants more
    print("filled")
    raise SystemExit
schemes = {schemes}
for dtype in ("float64", "float32", "float16"):
    for scheme in schemes:
        for shape in ((150, 130), (300, 70), (70, 300)) if scheme == "identity" else ((3, 70, 80), (1, 70, 300)):
            out = np.empty(shape, dtype)
            turned = np.empty(shape[::-1], dtype).T
            for array in (out, turned):
                run(lambda: fill(array, scheme, seed=1, threads=3))
            rows = np.arange(shape[0])
            run(lambda: fill_rows(turned, rows, scheme, seed=1, shape=shape, threads=3))
            assert np.array_equal(out, turned) and out.any()
print("filled")
"""
SCHEMES = ["orthogonal", "delta_orthogonal", "convolution_orthogonal", "sparse(0.5)", "identity", "dirac", "he_normal"]
DRAWN = ["uniform", "normal", "truncated_normal", "truncated_normal(low=3, high=4)", "truncated_normal(low=9, high=11)"]


@pytest.mark.parametrize("isa", ["", "baseline"])
def test_every_scheme_is_filled_by_threads_whose_stack_is_64_kib(isa):
    chosen = {"WINIT_FAST_ISA": isa} if isa else {}
    assert printed(CODE.format(schemes=SCHEMES + DRAWN), **chosen) == "filled\n"
