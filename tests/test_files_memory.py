"""What schemes take beside their values is known before any of it is taken, and `memory` covers it."""

import tracemalloc

import numpy as np
import pytest
from written_files import contents, make

from winit_fast import convolution, orthogonal
from winit_fast.files import Recipe, TensorSpec, plan, scratch, verify, write, writes
from winit_fast.files.runs import RunFiller
from winit_fast.files.scratch import scratch_of
from winit_fast.files.specs import Part
from winit_fast.files.writing import read_unfinished, write_layout

COSTLY = [
    ("orthogonal", (600, 500), {}), ("orthogonal", (500, 600), {}), ("orthogonal", (1500, 70), {}),
    ("orthogonal", (60, 3000), {}), ("orthogonal", (1500, 700), {}), ("orthogonal", (20_000, 3), {}),
    ("orthogonal", (30, 20, 300), {}), ("orthogonal", (3, 300, 200), {"batch_axis": 0}),
    ("orthogonal", (700, 700), {"matrices": 2}), ("delta_orthogonal", (3, 3, 200, 250), {}),
    ("convolution_orthogonal", (3, 3, 60, 100), {}), ("convolution_orthogonal", (9, 50, 100), {}),
    ("convolution_orthogonal", (2, 2, 2, 10, 20), {}), ("sparse(sparsity=0.5)", (3000, 200), {}),
    ("sparse(sparsity=0.5)", (2, 3, 400), {}), ("identity", (700, 700), {}), ("dirac", (3, 3, 70, 70), {}),
]  # fmt: skip


@pytest.mark.parametrize("budget", [64 << 10, orthogonal.BUDGET])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize(("scheme", "shape", "axes"), COSTLY)
def test_no_scheme_takes_more_than_is_said(scheme, shape, axes, dtype, budget, monkeypatch):
    """With a small budget, what grows with the tensor is the most of it."""
    monkeypatch.setattr(orthogonal, "BUDGET", budget)
    monkeypatch.setattr(convolution, "BUDGET", budget)
    spec = TensorSpec("t", shape, dtype, scheme, **axes)
    corner = Part(spec, tuple(size // 3 for size in shape), tuple(size - size // 3 for size in shape))
    for part, threads in ((spec.whole, 2), (spec.rows(shape[0] // 3, shape[0]), 1), (corner, 2)):
        out = np.empty(part.shape, spec.dtype)
        tracemalloc.start()
        try:
            spec.initializer.fill(out, seed=7, shape=shape, offset=part.offset, threads=threads)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak <= scratch_of(part, threads) + (1 << 17)


def sparse_file(path, spec, seed=7):
    """A file whose header is right, and which takes no room: all else is a hole."""
    layout = plan(path, spec, seed=seed).files[0].layout
    path.write_bytes(layout.header)
    with open(path, "r+b") as file:
        file.truncate(layout.size)


HUGE = [
    ("orthogonal", (1 << 20, 1 << 20)), ("orthogonal", (1 << 22, 1 << 17)), ("orthogonal", (1 << 17, 1 << 22)),
    ("delta_orthogonal", (3, 1 << 20, 1 << 20)), ("convolution_orthogonal", (3, 3, 1 << 18, 1 << 19)),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "shape"), HUGE)
def test_a_huge_matrix_is_refused_before_any_memory_is_taken(scheme, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(writes, "check_room", lambda *_: None)  # a disk that has room for it
    spec = TensorSpec("layer", shape, "bfloat16", scheme)
    path = tmp_path / "t.safetensors"
    message = rf"memory must be at least \d+ bytes \(.*\) for '{scheme}' of shape .*, tensor 'layer', .*; got 268435456"
    tracemalloc.start()
    try:
        for act in (write, lambda *given, **options: write(*given, resume=True, **options)):
            with pytest.raises(ValueError, match=message):
                act(path, spec, seed=7)
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "folder", spec, seed=7, format="dcp", world_size=1)
        assert contents(tmp_path) == {}
        try:
            sparse_file(path, spec)
        except OSError:
            pytest.skip("a file system without files so large")
        for sample in (None, 10):
            with pytest.raises(ValueError, match=message):
                verify(path, sample=sample)
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_what_schemes_take_is_left_out_of_the_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "FREE", 0)
    spec = TensorSpec("layer", (600, 500), "float32", "orthogonal")
    recipe, layout = make(spec)
    needed = scratch_of(spec.whole, 2)
    least = needed + 2 * 65536
    with pytest.raises(ValueError, match=rf"memory must be at least {least} bytes"):
        write_layout(tmp_path / "t", layout, recipe, memory=least - 1, threads=2)
    assert contents(tmp_path) == {}
    write_layout(tmp_path / "t", layout, recipe, memory=least, threads=2)
    write(tmp_path / "t.safetensors", spec, seed=7, memory=least, threads=2)
    assert verify(tmp_path / "t.safetensors", memory=least, threads=2)
    with pytest.raises(ValueError, match=rf"memory must be at least {least} bytes"):
        verify(tmp_path / "t.safetensors", memory=least - 1, threads=2)


def test_a_file_is_continued_with_the_memory_that_it_was_begun_with(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "FREE", 0)
    spec = TensorSpec("layer", (600, 500), "float32", "orthogonal")
    recipe, layout = make(spec)
    memory = scratch_of(spec.whole, 2) + 4 * 65536

    def stop(done, total):
        if done > 200_000:
            raise KeyboardInterrupt

    monkeypatch.setattr("winit_fast.files.writing._REPORT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        write_layout(tmp_path / "t", layout, recipe, memory=memory, threads=2, progress=stop)
    assert read_unfinished(tmp_path / "t").kept
    with pytest.raises(ValueError, match=rf"memory must be at least {memory} bytes to continue .*, got {memory - 1}"):
        write_layout(tmp_path / "t", layout, recipe, memory=memory - 1, threads=2, resume=True)
    assert write_layout(tmp_path / "t", layout, recipe, memory=memory, threads=2, resume=True).kept


def test_a_look_whether_a_file_is_complete_keeps_no_more_than_schemes_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "FREE", 0)
    recipe, layout = make(TensorSpec("layer", (600, 500), "float32", "orthogonal"), header=0)
    needed, kept = scratch_of(layout.segments[0].part, 2), []

    class Filler(RunFiller):
        def __init__(self, seed, most_bytes, threads=None):
            kept.append(most_bytes)
            super().__init__(seed, most_bytes, threads)

    monkeypatch.setattr("winit_fast.files.writing.RunFiller", Filler)
    arguments = {"memory": needed + (1 << 20), "threads": 2}
    write_layout(tmp_path / "t", layout, recipe, **arguments)
    kept.clear()
    assert write_layout(tmp_path / "t", layout, recipe, **arguments, resume=True).written == 0
    assert kept == [1 << 20]


def test_only_what_is_written_counts(tmp_path):
    """A tensor without values takes nothing, however large its other axes are."""
    spec = TensorSpec("layer", (0, 1 << 50), "bfloat16", "orthogonal")
    write(tmp_path / "t.safetensors", spec, seed=7)
    assert verify(tmp_path / "t.safetensors", recipe=Recipe((spec,), 7))
