"""`winit_fast.files.writing`: a file has the bits of `fill`, however it is cut, and nothing stands beside it."""

import os
import stat
import sys
from math import prod

import numpy as np
import pytest
from arrays import DTYPES
from hypothesis import given
from hypothesis import strategies as st
from processes import ON_TWO_CPUS, printed
from written_files import SCHEME, SEED, Part, TensorSpec, contents, expected, lay_out, make

from winit_fast.files import writing
from winit_fast.files.layouts import Layout, Segment
from winit_fast.files.scratch import LEAST_MEMORY
from winit_fast.files.writing import write_layout

posix = pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")
ALL_DTYPES = [*DTYPES, "complex64", "complex128"]


@pytest.fixture(params=["direct", "buffered", "no pwrite"])
def way(request, monkeypatch):
    """Each way to the disk: past the cache, through it, and with what Windows has."""
    if request.param != "direct":
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    if request.param == "no pwrite":
        for name in ("pwrite", "fdatasync", "posix_fadvise", "posix_fallocate"):
            monkeypatch.delattr(os, name, raising=False)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", ALL_DTYPES)
def test_a_file_has_the_bits_of_fill(dtype, tmp_path):
    recipe, layout = make(("user_id", (3001, 17), dtype), ("item_id", (7, 5, 3), dtype))
    written = write_layout(tmp_path / "t", layout, recipe, memory=LEAST_MEMORY)
    assert written == (tmp_path / "t", layout.size, 0, layout.size)
    assert contents(tmp_path) == {"t": expected(recipe, layout)}


SHAPES = [
    (("a", (), "float32"),), (("a", (0,), "float32"),), (("a", (3, 0, 2), "float16"), ("b", (5,), "float16")),
    (("a", (0,), "float64"), ("b", (0,), "float32")), (("a", (1,), "float8_e4m3fn"),),
    tuple((f"layer.{k}.weight", (k % 7, 3 + k % 5), "float32") for k in range(200)),
    (("a", (64, 64), "float32", "orthogonal"), ("b", (300, 200), "float32", "sparse(sparsity=0.9)")),
    (("a", (500, 200), "float32", "orthogonal"),),  # larger than the memory that is left for it
    (("a", (129, 33, 9), "bfloat16", "he_normal"), ("b", (9, 9), "float64", "zeros"), ("c", (99,), "float16", "ones")),
    (TensorSpec("a", (900, 64), "bfloat16", SCHEME, padding_idx=3), TensorSpec("b", (9,), "float32", SCHEME, stream=5)),
    (),
]  # fmt: skip


@pytest.mark.parametrize("tensors", SHAPES)
@pytest.mark.parametrize("header", [0, 4096, 4096 * 40])
@pytest.mark.parametrize("memory", [LEAST_MEMORY, 3 * LEAST_MEMORY, 256 << 20])
def test_any_shapes_behind_any_header_in_any_memory(tensors, header, memory, tmp_path):
    recipe, layout = make(*tensors, header=header)
    write_layout(tmp_path / "t", layout, recipe, memory=memory)
    assert contents(tmp_path) == {"t": expected(recipe, layout)}


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=4).map(tuple), st.sampled_from(ALL_DTYPES)), max_size=5),
    st.integers(LEAST_MEMORY, 4 * LEAST_MEMORY),
    st.integers(1, 3),
)
def test_any_tensors_any_memory_any_threads(tmp_path_factory, tensors, memory, threads):
    tensors = [tensor for tensor in tensors if prod(tensor[0]) < 200_000]
    recipe, layout = make(*[(f"{number}", *tensor) for number, tensor in enumerate(tensors)])
    path = tmp_path_factory.mktemp("any") / "t"
    write_layout(path, layout, recipe, memory=memory, threads=threads)
    assert path.read_bytes() == expected(recipe, layout)


def test_a_file_may_hold_a_part_of_a_tensor(tmp_path):
    spec = TensorSpec("user_id", (1001, 33), "bfloat16", SCHEME)
    orthogonal = TensorSpec("layer.weight", (300, 200), "float32", "orthogonal")
    recipe, _ = make(spec, orthogonal)
    whole = spec.initializer.fill(np.empty(spec.shape, spec.dtype), seed=SEED)
    parts = [Part(spec, (333, 0), (400, 33)), Part(orthogonal, (7, 50), (200, 100))]
    layout = lay_out(recipe, parts=parts)
    write_layout(tmp_path / "t", layout, recipe, memory=LEAST_MEMORY)
    found = (tmp_path / "t").read_bytes()
    assert found == expected(recipe, layout)
    assert found[-400 * 33 * 2 :] == whole[333:733].tobytes()


def test_blocks_are_filled_once_each_and_no_tensor_before_its_turn(tmp_path, monkeypatch):
    met = []
    kept = writing._fill_block

    def fill(block, begin, *rest):
        met.append((begin, begin + len(block)))
        kept(block, begin, *rest)

    monkeypatch.setattr(writing, "_fill_block", fill)
    recipe, layout = make(("a", (100_000,), "float32"))
    write_layout(tmp_path / "t", layout, recipe, memory=LEAST_MEMORY)
    assert [begin for begin, _ in met] == [4096, *range(65536, layout.size, 65536)]
    assert [end for _, end in met] == [*range(65536, layout.size, 65536), layout.size]


# What is refused, before any file exists


def refused(path, layout, recipe, error, match, **options):
    before = contents(path.parent) if path.parent.is_dir() else None
    with pytest.raises(error, match=match):
        write_layout(path, layout, recipe, **options)
    if before is not None:
        assert contents(path.parent) == before


def test_arguments_that_cannot_be_used_are_refused_before_any_file_exists(tmp_path):
    recipe, layout = make(("a", (100,), "float32"))
    segment = layout.segments[0]
    path = tmp_path / "t"
    refused(
        path, layout, recipe, ValueError, "memory must be at least 131072 bytes, got 131071", memory=LEAST_MEMORY - 1
    )
    refused(path, layout, recipe, ValueError, "threads must be an int >= 1 or None, got 0", threads=0)
    wrong = layout._replace(header=b"x" * 100)
    refused(path, wrong, recipe, ValueError, "header must be a multiple of 4096 bytes, got 100")
    wrong = layout._replace(segments=(Segment(segment.part, 8192),))
    refused(path, wrong, recipe, ValueError, "'a' must begin at byte 4096, .*, got 8192")
    refused(path, layout._replace(size=5000), recipe, ValueError, "size must be 4496, and less than 2\\^62, got 5000")
    huge = TensorSpec("a", (1 << 61,), "float16", SCHEME)
    whole = Layout("test", b"", (Segment(huge.whole, 0),), huge.nbytes)
    refused(path, whole, recipe, ValueError, "size must be .*less than 2\\^62")


def test_a_file_larger_than_the_disk_is_refused_before_it_is_made(tmp_path):
    recipe, layout = make(("a", (1 << 40, 64), "float32"))
    refused(tmp_path / "t", layout, recipe, OSError, r"281,474,976,714,752 bytes are needed and [0-9,]+ free")


def test_what_stands_there_is_refused_before_any_file_exists(tmp_path, monkeypatch):
    recipe, layout = make(("a", (100,), "float32"))
    (tmp_path / "t").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    refused(
        tmp_path / "missing" / "t", layout, recipe, FileNotFoundError, "must be in a folder that exists, but .*missing"
    )
    refused(tmp_path / "t" / "t", layout, recipe, NotADirectoryError, "is not a folder")
    (tmp_path / "folder").rmdir()
    refused(tmp_path / "t", layout, recipe, FileExistsError, "t exists already")
    refused(tmp_path / "t", layout, recipe, FileExistsError, "t exists already", resume=True)
    refused(tmp_path / ("x" * 245), layout, recipe, OSError, "too long" if os.name != "nt" else "x{245}")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    refused(tmp_path / "new", layout, recipe, PermissionError, "must be in a writable folder")


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_refused(tmp_path):
    recipe, layout = make(("a", (100,), "float32"))
    tmp_path.chmod(0o500)
    refused(tmp_path / "t", layout, recipe, PermissionError, "must be in a writable folder")


# Names


def test_force_replaces_a_file_once_the_new_one_is_complete(tmp_path):
    recipe, layout = make(("a", (100_000,), "float32"))
    (tmp_path / "t").write_bytes(b"old")
    seen = []
    write_layout(
        tmp_path / "t", layout, recipe, force=True, memory=LEAST_MEMORY,
        progress=lambda done, total: seen.append((tmp_path / "t").read_bytes()),
    )  # fmt: skip
    assert set(seen) == {b"old"}
    assert contents(tmp_path) == {"t": expected(recipe, layout)}


def test_a_file_that_another_process_made_meanwhile_stays_and_so_does_what_was_written(tmp_path):
    recipe, layout = make(("a", (100,), "float32"))

    def take(done, total):
        (tmp_path / "t").write_bytes(b"other")

    with pytest.raises(FileExistsError, match="t exists already"):
        write_layout(tmp_path / "t", layout, recipe, progress=take)
    assert (tmp_path / "t").read_bytes() == b"other"
    assert read_unfinished_size(tmp_path / "t") == layout.size - 4096
    assert write_layout(tmp_path / "t", layout, recipe, resume=True, force=True).written == 4096
    assert contents(tmp_path) == {"t": expected(recipe, layout)}


def read_unfinished_size(path):
    past = writing._read_past(path)
    return writing._Blocks.of(past.intent).count_bytes(past.blocks)


@posix
def test_permissions_are_those_of_the_umask_or_of_the_file_that_is_replaced(tmp_path):
    recipe, layout = make(("a", (100,), "float32"))
    before = os.umask(0o027)
    try:
        write_layout(tmp_path / "t", layout, recipe)
        assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o640
        (tmp_path / "t").chmod(0o604)
        modes = []
        write_layout(
            tmp_path / "t", layout, recipe, force=True,
            progress=lambda *_: modes.append(stat.S_IMODE((tmp_path / "t.partial").stat().st_mode)),
        )  # fmt: skip
        assert set(modes) == {0o600}
        assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o604
    finally:
        os.umask(before)


@posix
def test_the_file_that_a_link_names_is_written_and_the_link_stays(tmp_path):
    recipe, layout = make(("a", (100,), "float32"))
    (tmp_path / "links").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "links" / "t").symlink_to(tmp_path / "files" / "t")
    write_layout(tmp_path / "links" / "t", layout, recipe)
    assert contents(tmp_path / "files") == {"t": expected(recipe, layout)}
    assert (tmp_path / "links" / "t").is_symlink()


@posix
@pytest.mark.parametrize("name", ["t.partial", "t.partial.journal.new"])
def test_a_link_under_a_temporary_name_is_not_followed(name, tmp_path):
    recipe, layout = make(("a", (100,), "float32"))
    (tmp_path / "precious").write_bytes(b"")
    (tmp_path / name).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        write_layout(tmp_path / "t", layout, recipe)
    assert (tmp_path / "precious").read_bytes() == b""
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("scheme", [SCHEME, "orthogonal", "sparse(sparsity=0.5)"])
def test_a_complete_file_is_left_as_it_is_by_resume_and_another_one_is_not_taken_for_it(scheme, tmp_path):
    recipe, layout = make(("a", (1000, 3), "float32", scheme), header=0)
    write_layout(tmp_path / "t", layout, recipe)
    before = contents(tmp_path)
    assert write_layout(tmp_path / "t", layout, recipe, resume=True) == (tmp_path / "t", layout.size, layout.size, 0)
    assert write_layout(tmp_path / "t", layout, recipe, resume=True, force=True).written == 0
    for name, seed in (("a", 8), ("b", SEED)):
        other = make((name, (1000, 3), "float32", scheme), header=0, seed=seed)
        refused(tmp_path / "t", other[1], other[0], FileExistsError, "exists already", resume=True)
    assert contents(tmp_path) == before


# Progress and memory


def test_progress_goes_from_what_is_kept_to_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_REPORT_SECONDS", 0.0)
    recipe, layout = make(("a", (500_000,), "float32"))
    seen = []
    write_layout(tmp_path / "t", layout, recipe, memory=LEAST_MEMORY, progress=lambda *given: seen.append(given))
    done = [one for one, _ in seen]
    assert {total for _, total in seen} == {layout.size}
    assert done[0] == 0
    assert done[-1] == layout.size
    assert done == sorted(done)
    assert len(set(done)) > 10
    monkeypatch.setattr(writing, "_REPORT_SECONDS", 1e9)
    seen.clear()
    write_layout(tmp_path / "t", layout, recipe, force=True, progress=lambda *given: seen.append(given))
    assert seen == [(0, layout.size), (layout.size, layout.size)]


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's; ru_maxrss has the parent's memory too")
@pytest.mark.parametrize("memory", [8 << 20, 64 << 20])
def test_peak_memory_is_what_was_asked_for_and_what_python_has(memory, tmp_path):
    code = f"""{ON_TWO_CPUS}
from written_files import make
from winit_fast.files.writing import write_layout
recipe, layout = make(("user_id", (1_500_000, 64), "float16"), ("layer.weight", (2000, 700), "float32", "orthogonal"))
write_layout({str(tmp_path / "t")!r}, layout, recipe, memory={memory})
with open("/proc/self/status") as status:
    print(layout.size, next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM")))
"""
    size, peak = map(int, printed(code).split())
    assert size > 180 << 20
    assert peak <= memory + (100 << 20)


def test_writing_imports_nothing_but_numpy_and_the_standard_library():
    code = """
import sys
absent = ("ml_dtypes", "tqdm", "rich", "safetensors")
sys.modules.update(dict.fromkeys(absent))
before = set(sys.modules)
import winit_fast.files.writing
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(name for name in new if not name.startswith(("_cython", "cython_runtime"))))
"""
    assert printed(code).split() == ["numpy", "winit_fast"]
