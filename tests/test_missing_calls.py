"""A system that lacks a call, a module or its files gets the same values, files and messages."""

import re

import pytest
from processes import printed

# Each in a process of its own, before winit_fast is imported; and NumPy. An audit hook raises
# for whoever opens a file of /proc or /sys, in whatever way.
GONE = """
def lack(place, *names):
    for name in names:
        if hasattr(place, name):
            delattr(place, name)
def hide(*names):
    for name in names:
        sys.modules[name] = None
def refuse(event, arguments):
    if event == "open" and str(arguments[0]).startswith(("/proc", "/sys")):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])
def no_calls_of_c():
    import ctypes
    class Library:
        def __init__(self, name): pass
    ctypes.CDLL = Library
def no_libraries():
    import ctypes
    def load(name): raise OSError("no library is loaded here")
    ctypes.CDLL = load
"""
LACKING = {
    "mmap": "hide('mmap')",
    "madvise for huge pages": "import mmap; lack(mmap, 'MADV_HUGEPAGE', 'MAP_PRIVATE', 'MAP_ANONYMOUS')",
    "ctypes": "hide('ctypes', '_ctypes')",
    "mincore and madvise in C": "no_calls_of_c()",
    "libraries that Python loads": "no_libraries()",
    "affinity": "lack(os, 'sched_getaffinity', 'sched_setaffinity')",
    "/proc and /sys": "sys.addaudithook(refuse)",
    "fork": "lack(os, 'fork', 'forkpty', 'register_at_fork')",
    "fcntl": "hide('fcntl')",
    "posix_fallocate": "lack(os, 'posix_fallocate')",
    "writing past the cache": "lack(os, 'O_DIRECT')",
    "emptying the cache": "lack(os, 'O_DIRECT', 'posix_fadvise')",
    # shutil of Python 3.13 needs O_NONBLOCK itself to remove a folder by its descriptor.
    "flags of open": "import shutil; shutil._use_fd_functions = 0; lack(os, 'O_NOFOLLOW', 'O_NONBLOCK', 'O_BINARY')",
    "pwrite": "lack(os, 'pwrite')",
    "fdatasync": "lack(os, 'fdatasync')",
    "hard links": "lack(os, 'link')",
    "SIGHUP": "import signal; lack(signal, 'SIGHUP')",
}
WITHIN_OTHERS = "madvise for huge pages", "mincore and madvise in C", "libraries that Python loads"
LACKING["all of these"] = "\n".join(code for name, code in LACKING.items() if name not in WITHIN_OTHERS)

WORK = """
import hashlib, re, tempfile
import numpy as np
import winit_fast
from winit_fast import files, parallel, pages
from winit_fast.__main__ import main
from winit_fast.files import TensorSpec, journal

def show(octets): print(hashlib.sha256(bytes(octets)).hexdigest())
threads = parallel.default_threads()
assert 1 <= threads <= os.cpu_count()

large = np.empty((3 << 10, 1 << 10), "float32")
assert large.nbytes >= pages.LARGE
show(winit_fast.fill(large, "normal", seed=1, name="a"))
show(winit_fast.fill(large[:100], "orthogonal", seed=1, name="a", threads=2))
rows = np.frombuffer(bytearray(4 << 10), "float32").reshape(-1, 64)
show(winit_fast.fill_rows(rows, [3, 1] * 8, "normal", seed=1, name="b", shape=(9, 64)))
small = np.frombuffer(bytearray(256), "float16").reshape(2, 64)
winit_fast.fill_many([{"out": part, "scheme": "normal", "name": k} for k, part in enumerate(small)], seed=1)
show(small)

with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    table = TensorSpec("a", (3001, 170), "float32", "normal")
    given = ["--shape", "3001x170", "--dtype", "float32", "--scheme", "normal", "--seed", "1", "--name", "a"]
    def progress(*_): raise KeyboardInterrupt
    try:
        files.write("a.npy", table, seed=1, memory="1MiB", threads=1, progress=progress)
    except KeyboardInterrupt:
        print(files.read_unfinished("a.npy") is not None, sorted(os.listdir()))
    print(main(["fill", "a.npy", "--resume", "--quiet"]), main(["verify", "a.npy", *given]), main(["clean", "a.npy"]))
    print(main(["fill", "a.npy", *given]), main(["fill", "a.npy", "--force", "--quiet", *given]))
    show(open("a.npy", "rb").read())
    print(sorted(os.listdir()))
    main(["embeddings", "--rows", "1000", "--dim", "16", "--threads", "2"])
    os.chdir("/")
"""


def said(lacking):
    code = f"import os, sys\n{GONE}\n{lacking}\n{WORK}"
    return re.sub(r"\d+[.,]?\d* (ms|s|GB/s|MB/s)\b", "", printed(code))


@pytest.fixture(scope="module")
def everything():
    return said("")


@pytest.mark.parametrize("name", LACKING)
def test_a_system_without_this_gets_the_same_from_the_same_program(everything, name):
    assert said(LACKING[name]) == everything
