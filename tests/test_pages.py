"""Huge pages: for large arrays of untouched memory of the process's own, and for nothing else."""

import sys

import numpy as np
import pytest
from processes import printed

import winit_fast
from winit_fast import pages

MIB = 1 << 20

# In a process of its own, whose pages the tests before have not touched. NumPy asks by itself for arrays of its own, so
# that memory comes from elsewhere; `asked` says whether it was asked for, by the flags of its mapping.
MEMORY = """
import ctypes, mmap, os, tempfile
import numpy as np
import winit_fast
from winit_fast import pages
MIB = 1 << 20
SIZE = pages._huge_page() or 2 * MIB
def fresh(octets):
    memory = mmap.mmap(-1, octets + SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(memory, "uint8")
    return array[-array.ctypes.data % SIZE:][:octets]
def flags(address):
    with open("/proc/self/smaps") as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0]:
                low, high = (int(word, 16) for word in words[0].split("-"))
            elif words[0] == "VmFlags:" and low <= address < high:
                return words[1:]
def asked(array, octet=None):
    place = array.nbytes // 2 if octet is None else octet
    return "hg" in flags(array.ctypes.data + place)
def fill(array, threads=None):
    winit_fast.fill(array.view("float32"), "normal", seed=7, name="x", threads=threads)
    return array
"""

GRANTED = sys.platform == "linux" and pages._huge_page() > 0
needs_grant = pytest.mark.skipif(not GRANTED, reason="this system grants no huge pages on request")


def said(code, **environment):
    return printed(MEMORY + code, **environment).strip()


VERBS = [
    "fill(array)",
    "winit_fast.fill(array.view('float16').reshape(-1, 64).T, 'ones')",
    "winit_fast.random_bits(array.view('uint32'), seed=1)",
    "winit_fast.fill(array.view('float32').reshape(1024, -1), 'identity')",
    "winit_fast.fill(array.view('float32').reshape(1024, -1), 'sparse(0.5)', seed=1)",
    "winit_fast.fill(array.view('float32').reshape(-1, 64), 'orthogonal', seed=1)",
    "winit_fast.fill(array.view('float32').reshape(-1, 4), 'array([1, 2, 3, 4])')",
    "winit_fast.fill(array.view('float32').reshape(-1, 64), 'lstm_bias')",
    "winit_fast.fill(array.view('complex64'), 'constant(0.5)')",
    "winit_fast.fill_keys(array.view('float32').reshape(-1, 64), np.arange(32768), 'normal', seed=1)",
]
OTHERS = {
    "small": "array = fill(fresh(MIB))",
    "touched": "array = fresh(8 * MIB); array[:] = 1; fill(array)",
    "touched in part": "array = fresh(8 * MIB); array[5 * MIB : 6 * MIB] = 1; fill(array)",
    "shared": "array = fill(np.frombuffer(mmap.mmap(-1, 8 * MIB), 'uint8'))",
    "of a file": "array = fill(np.memmap(tempfile.TemporaryFile(), 'uint8', 'w+', shape=(8 * MIB,)))",
    "private, of a file": (
        "file = tempfile.TemporaryFile(); file.truncate(8 * MIB)\n"
        "array = fill(np.frombuffer(mmap.mmap(file.fileno(), 8 * MIB, mmap.MAP_PRIVATE), 'uint8'))"
    ),
    "with gaps of pages": (
        "array = fresh(64 * MIB)\nwinit_fast.fill(array.view('float32').reshape(-1, 16384)[:, :8192], 'ones')"
    ),
}


@pytest.fixture(scope="module")
def was_asked():
    """Whether memory was asked for, by code: in one process, which keeps all of it."""
    code = f"kept = []\nfor code in {[*VERBS, *OTHERS.values()]!r}:\n"
    code += "    if code.startswith(('fill', 'winit_fast')):\n        array = fresh(8 * MIB)\n"
    code += "        assert not asked(array), code\n    exec(code)\n    kept.append(array)\n    print(asked(array))"
    return dict(zip([*VERBS, *OTHERS.values()], said(code).split(), strict=True))


@needs_grant
@pytest.mark.parametrize("verb", VERBS)
def test_untouched_memory_gets_huge_pages(was_asked, verb):
    assert was_asked[verb] == "True"


@needs_grant
def test_huge_pages_lie_within_the_array():
    code = """
memory = fresh(8 * SIZE)
fill(memory[SIZE // 2 : -SIZE // 2])
print(*(asked(memory, place) for place in (0, SIZE - 1, SIZE, 7 * SIZE - 1, 7 * SIZE, 8 * SIZE - 1)))
"""
    assert said(code) == "False False True True False False"


@needs_grant
@pytest.mark.parametrize("kind", OTHERS)
def test_other_memory_stays_as_it_is(was_asked, kind):
    assert was_asked[OTHERS[kind]] == "False"


@needs_grant
def test_gaps_get_no_pages():
    """Of an array that leaves out three of four MiB, with the rest untouched."""
    code = """
def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10
array = fresh(128 * MIB).view("float32").reshape(-1, 4 * MIB // 4)
winit_fast.fill(array[:1, :10], "normal", seed=1)
before = resident()
winit_fast.fill(array[:, : MIB // 4], "normal", seed=1)
print(resident() - before)
"""
    assert int(said(code)) <= 32 + 8


@needs_grant
def test_the_environment_forbids_huge_pages():
    code = "print(asked(fill(fresh(8 * MIB))))"
    assert said(code, WINIT_FAST_HUGE_PAGES="0") == "False"
    assert said(code, WINIT_FAST_HUGE_PAGES="1") == said(code, WINIT_FAST_HUGE_PAGES="") == "True"


def test_another_setting_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setenv("WINIT_FAST_HUGE_PAGES", "always")
    array = np.zeros(pages.LARGE, "uint8").view("float32")
    with pytest.raises(ValueError, match="WINIT_FAST_HUGE_PAGES must be 0 or 1, got 'always'"):
        winit_fast.fill(array, "ones")
    assert not array.any()


@pytest.mark.parametrize("settings", ["always madvise [never]", "[always] madvise never", None])
def test_nothing_is_asked_where_all_or_none_get_huge_pages(tmp_path, monkeypatch, settings):
    if settings is not None:
        (tmp_path / "enabled").write_text(settings)
        (tmp_path / "hpage_pmd_size").write_text("2097152")
    monkeypatch.setattr(pages, "_SETTINGS", tmp_path)
    assert pages._huge_page.__wrapped__() == 0


@pytest.mark.parametrize(("octets", "expected"), [(2 * MIB, 2 * MIB), (512 * MIB, 0)])
def test_huge_pages_are_of_a_size_that_is_soon_zeroed(tmp_path, monkeypatch, octets, expected):
    (tmp_path / "enabled").write_text("always [madvise] never")
    (tmp_path / "hpage_pmd_size").write_text(f"{octets}\n")
    monkeypatch.setattr(pages, "_SETTINGS", tmp_path)
    assert pages._huge_page.__wrapped__() == (expected if sys.platform == "linux" else 0)


@needs_grant
def test_a_refused_request_is_no_error():
    code = """
class System:
    mincore = pages._system().mincore
    calls = []
    def madvise(self, *arguments):
        self.calls.append(arguments)
        return -1
system = System()
pages._system = lambda: system
array = fill(fresh(8 * MIB))
print(len(system.calls), asked(array), bool(array.any()))
"""
    assert said(code) == "1 False True"


@pytest.mark.skipif(sys.platform != "linux", reason="mincore is asked on Linux")
def test_memory_has_pages_once_it_is_touched():
    assert said("array = fresh(8 * MIB)\nprint(pages.prepare(array), pages.prepare(fill(array)))") == "False True"


def test_huge_pages_change_no_value(monkeypatch):
    if not GRANTED:
        pytest.skip("this system grants no huge pages on request")
    code = "import hashlib\nprint(hashlib.sha256(fill(fresh(9 * MIB)[4:-8], 2)).hexdigest())"
    assert said(code) == said(code, WINIT_FAST_HUGE_PAGES="0")


@needs_grant
@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("library", "make", "address"),
    [
        ("torch", "adapters.torch.init_(library.empty(1 << 22), 'normal', seed=1)", "made.data_ptr()"),
        ("tensorflow", "adapters.tensorflow.init((1 << 22,), 'normal', seed=1)", "np.asarray(made).ctypes.data"),
        ("jax", "adapters.jax.init((1 << 22,), 'normal', seed=1)", "made.unsafe_buffer_pointer()"),
        (
            "torch",
            "library.nn.Linear(2048, 2048, device='meta')\nadapters.torch.materialize_(made, 'torch', seed=1)",
            "made.weight.data_ptr()",
        ),
    ],
)
def test_new_memory_of_frameworks_gets_huge_pages(library, make, address):
    pytest.importorskip(library)
    code = f"import {library} as library\nfrom winit_fast import adapters\nmade = {make}\n"
    assert said(f"{code}print('hg' in flags({address} + 8 * MIB))", TF_ONEDNN_USE_SYSTEM_ALLOCATOR="1") == "True"
