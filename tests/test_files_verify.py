"""`winit_fast.files.verify` finds every flipped bit, and says where it is; nothing else is a difference."""

import json
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_files_formats import SEED, filled, model

from winit_fast.files import Recipe, TensorSpec, comparing, plan, runs, verify, write
from winit_fast.files.runs import fill_run

SPEC = TensorSpec("t", (3001, 67), "float32", "normal(std=0.02)")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(comparing, "_LARGEST_BLOCK", 64 << 10)
    monkeypatch.setattr(comparing, "_PIECE", 4096)


def poke(path, place, value):
    """Write some bytes in the middle of a file."""
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(value)


def places(path, specs):
    """Where each tensor begins in a file."""
    return {part.spec.name: start for part, start in plan(path, specs, seed=SEED).files[0].layout.segments}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["t.safetensors", "t.bin"])
def test_what_write_wrote_is_right(tmp_path, name, threads):
    write(tmp_path / name, model(), seed=SEED)
    recipe = None if name == "t.safetensors" else Recipe(tuple(model()), SEED)
    verdict = verify(tmp_path / name, recipe=recipe, threads=threads)
    assert verdict == ((), (), (), (), (), sum(spec.nbytes for spec in model()))
    assert verdict.is_right
    assert verdict


def test_any_flipped_bit_is_found_at_its_index(tmp_path):
    path = tmp_path / "t.safetensors"
    specs = model()
    write(path, specs, seed=SEED)
    starts, content = places(path, specs), path.read_bytes()
    generator = random.Random(1)
    for _ in range(100):
        spec = generator.choice([spec for spec in specs if spec.nbytes])
        at = generator.randrange(spec.nbytes)
        place = starts[spec.name] + at
        poke(path, place, bytes([content[place] ^ (1 << generator.randrange(8))]))
        verdict = verify(path, threads=generator.randint(1, 3))
        (difference,) = verdict.differences
        assert difference.tensor == spec.name
        assert difference.index == tuple(map(int, np.unravel_index(at // spec.dtype.itemsize, spec.shape)))
        assert difference.expected.tobytes() == filled(spec)[difference.index].tobytes()
        with open(path, "rb") as file:
            file.seek(place - at % spec.dtype.itemsize)
            assert difference.found.tobytes() == file.read(spec.dtype.itemsize)
        assert difference.path == path
        poke(path, place, content[place : place + 1])
    assert verify(path).is_right


@pytest.mark.parametrize("place", [0, 3, 4095, 4096, 65535, 65536, 3001 * 67 * 4 - 1])
def test_the_first_difference_of_a_tensor_is_the_one_with_the_lowest_index(tmp_path, place):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    start = places(path, [SPEC])["t"]
    for at in (place, SPEC.nbytes - 1, SPEC.nbytes // 2 * (place < SPEC.nbytes // 2) or SPEC.nbytes - 1):
        poke(path, start + at, b"\x55")
    (difference,) = verify(path, threads=3).differences
    assert difference.index == divmod(place // 4, 67)


def test_bits_are_compared_not_values(tmp_path):
    specs = [TensorSpec("zero", (100,), "float32", "zeros"), TensorSpec("t", (100,), "float32", "normal")]
    path = tmp_path / "t.bin"
    write(path, specs, seed=SEED)
    recipe = Recipe(tuple(specs), SEED)
    poke(path, 4 * 17, np.float32(-0.0).tobytes())
    poke(path, 4 * 150, np.float32("nan").tobytes())
    lines = [str(difference) for difference in verify(path, recipe=recipe).differences]
    assert lines == [
        "zero (17,): found -0.0, expected 0.0",
        f"t (50,): found nan, expected {filled(specs[1])[50]!s}",
    ]


def test_values_that_print_alike_show_their_bits():
    nan = np.array([0x7FC00001, 0x7FC00000], "uint32").view("float32")
    difference = comparing.Difference("t", (3,), nan[0], nan[1], "t.bin")
    assert str(difference) == "t (3,): found nan (0x7fc00001), expected nan (0x7fc00000)"


@pytest.mark.parametrize("name", ["t.safetensors", "t.npy", "t.bin"])
@pytest.mark.parametrize("cut", [1, 5000, 800_000])
def test_a_truncated_file_is_found(tmp_path, name, cut):
    path = tmp_path / name
    written = write(path, SPEC, seed=SEED)
    os.truncate(path, written.size - cut)
    verdict = verify(path, recipe=Recipe((SPEC,), SEED))
    assert verdict.missing == (f"{path} ends at byte {written.size - cut} of {written.size}",)
    assert not verdict.is_right
    if name == "t.safetensors":
        assert verify(path) == verdict


def test_a_file_without_a_recipe_needs_one(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    for name in ("t.npy", "t.bin"):
        write(tmp_path / name, SPEC, seed=SEED)
    safetensors.save_file({"t": filled(SPEC)}, tmp_path / "t.safetensors")
    (tmp_path / "folder").mkdir()
    safetensors.save_file({"t": filled(SPEC)}, tmp_path / "folder" / "t.safetensors")
    for name in ("t.npy", "t.bin", "t.safetensors", "folder"):
        with pytest.raises(ValueError, match="does not say how it was made: recipe must be given"):
            verify(tmp_path / name)
        assert verify(tmp_path / name, recipe=Recipe((SPEC,), SEED)).is_right
        differences = verify(tmp_path / name, recipe=Recipe((SPEC,), SEED + 1)).differences
        assert [one.index for one in differences] == [(0, 0)]


def test_a_folder_without_any_file_of_safetensors_is_told_so(tmp_path):
    (tmp_path / "data.distcp").write_bytes(b"x")
    with pytest.raises(ValueError, match="must have files of safetensors, and has none"):
        verify(tmp_path)
    assert verify(tmp_path, recipe=Recipe((SPEC,), SEED)).missing == ("t is in no file",)


def test_a_file_of_another_version_of_the_stream_is_refused(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"stream_version\\": 1', b'\\"stream_version\\": 2'))
    with pytest.raises(ValueError, match=r"t\.safetensors: the recipe is of version 2 of the stream"):
        verify(path)
    assert verify(path, recipe=Recipe((SPEC,), SEED)).is_right


def test_tensors_that_are_missing_or_strays_are_named(tmp_path):
    path = tmp_path / "t.safetensors"
    a, b, c = (TensorSpec(name, (5,), "float32", "normal") for name in "abc")
    write(path, [a, b], seed=SEED)
    verdict = verify(path, recipe=Recipe((b, c), SEED))
    assert (verdict.missing, verdict.strays) == (("c",), ("a: the recipe has no such tensor",))
    other = TensorSpec("b", (5, 1), "float32", "normal")
    verdict = verify(path, recipe=Recipe((a, other), SEED))
    assert verdict.strays == ("b: float32 (5,) is no part of float32 (5, 1)",)
    assert verdict.missing == ("b: float32 (5, 1)",)
    assert verdict.checked_bytes == 20


def test_one_shard_can_be_verified_alone(tmp_path):
    for kind, options in (("hf", {"max_file_size": 1000}), ("dcp", {"world_size": 2})):
        write(tmp_path / kind, model(), seed=SEED, format=kind, **options)
        for path in (tmp_path / kind).glob("*.safetensors"):
            assert verify(path).is_right


@pytest.mark.parametrize("name", ["t.npy", "t.bin", "t.safetensors"])
def test_a_file_of_some_rows_is_verified(tmp_path, name):
    path = tmp_path / name
    spec = TensorSpec("t", (3001, 67), "float32", "he_normal", padding_idx=100)
    write(path, spec, seed=SEED, rows=(50, 2000))
    given = {} if name == "t.safetensors" else {"recipe": Recipe((spec,), SEED), "rows": (50, 2000)}
    assert verify(path, **given).is_right
    poke(path, os.path.getsize(path) - 1, b"\x55")
    (difference,) = verify(path, **given).differences
    assert difference.index == (1999, 66)


def test_a_file_of_some_rows_is_not_taken_for_the_whole(tmp_path):
    for name in ("t.npy", "t.bin"):
        write(tmp_path / name, SPEC, seed=SEED, rows=(50, 2000))
    with pytest.raises(ValueError, match=r"must have shape \(3001, 67\) of float32 by .*, and has \(1950, 67\)"):
        verify(tmp_path / "t.npy", recipe=Recipe((SPEC,), SEED))
    assert verify(tmp_path / "t.bin", recipe=Recipe((SPEC,), SEED)).missing == (
        f"{tmp_path / 't.bin'} ends at byte {1950 * 67 * 4} of {SPEC.nbytes}",
    )


@pytest.mark.parametrize("skip", [1, 2, 3, 5, 7])
def test_files_of_others_are_compared_wherever_values_begin(tmp_path, skip):
    """Their headers are not padded, so values are at odd places, and across the edges of blocks."""
    specs = [TensorSpec("a", (skip,), "float8_e4m3fn", "normal"), SPEC, TensorSpec("b", (9000, 5), "float64", "normal")]
    header, data = {}, b""
    for spec in specs:
        octets = filled(spec).tobytes()
        names = {"float8_e4m3fn": "F8_E4M3", "float32": "F32", "float64": "F64"}
        header[spec.name] = {
            "dtype": names[spec.dtype.name], "shape": spec.shape, "data_offsets": [len(data), len(data) + len(octets)]
        }  # fmt: skip
        data += octets
    text = json.dumps(header).encode()
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    recipe = Recipe(tuple(specs), SEED)
    assert verify(path, recipe=recipe).is_right
    for at in (skip + 70_001, len(data) - 3):
        place = 8 + len(text) + at
        poke(path, place, bytes([data[at] ^ 1]))
        (difference,) = verify(path, recipe=recipe).differences
        if at == skip + 70_001:
            assert difference.index == divmod(70_001 // 4, 67)
        else:
            assert (difference.tensor, difference.index) == ("b", (8999, 4))
        poke(path, place, data[at : at + 1])


@pytest.mark.parametrize("without", [(), ("O_DIRECT",), ("O_DIRECT", "posix_fadvise")])
def test_files_are_read_with_what_the_system_has(tmp_path, monkeypatch, without):
    for name in without:
        monkeypatch.delattr(os, name, raising=False)
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    assert verify(path).is_right
    poke(path, os.path.getsize(path) - 1, b"\x55")
    assert verify(path).differences[0].index == (3000, 66)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="O_DIRECT")
def test_a_disk_with_larger_pages_is_read_through_the_cache(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    reads = []

    class File(comparing.FileIO):
        def readinto(self, out):
            reads.append(len(out))
            if len(reads) == 1:
                raise OSError(22, "Invalid argument")
            return super().readinto(out[: random.Random(len(reads)).randrange(1, len(out) + 1)])

    monkeypatch.setattr(comparing, "FileIO", File)
    assert verify(path, threads=1).is_right


@pytest.mark.parametrize(("memory", "times"), [("4MiB", 1), ("512KiB", 4)])
def test_a_costly_part_is_made_once_where_it_fits_and_else_once_for_each_block(tmp_path, monkeypatch, memory, times):
    path = tmp_path / "t.safetensors"
    write(path, TensorSpec("t", (1000, 60), "float32", "sparse(0.5)"), seed=SEED)  # 240 kB: in 4 blocks, behind 4 KiB
    made = []
    monkeypatch.setattr(runs, "fill_run", lambda *given, **named: made.append(given) or fill_run(*given, **named))
    assert verify(path, memory=memory, threads=2).is_right
    assert len(made) == times
    poke(path, os.path.getsize(path) - 1, b"\x55")
    assert verify(path, memory=memory, threads=2).differences[0].index == (999, 59)


def test_a_sample_finds_what_it_meets(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, model(), seed=SEED)
    verdict = verify(path, sample=10)
    assert verdict.is_right
    assert 0 < verdict.checked_bytes < verify(path).checked_bytes
    assert verify(path, sample=10**9).checked_bytes <= verify(path).checked_bytes
    write(tmp_path / "u.safetensors", SPEC, seed=SEED)
    other = Recipe((SPEC,), SEED + 1)
    assert len(verify(tmp_path / "u.safetensors", recipe=other, sample=1).differences) == 1
    with pytest.raises(ValueError, match="sample must be 1 or more, got 0"):
        verify(path, sample=0)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000, 10**6])
@pytest.mark.parametrize("sample", [1, 64, 65, 1000, 10**7])
def test_stretches_of_a_sample_are_in_order_and_many_enough(size, sample):
    stretches = list(comparing._choose_stretches(size, sample))
    ends = [end for stretch in stretches for end in stretch]
    assert ends == sorted(ends)
    assert all(0 <= first < last <= size for first, last in stretches)
    count = sum(last - first for first, last in stretches)
    assert min(size, sample) // 2 <= count <= sample + 64


def test_progress_goes_from_nothing_to_all(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    for sample in (None, 100):
        seen = []
        verify(path, sample=sample, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen[-1] == (SPEC.nbytes, SPEC.nbytes)
        assert seen == sorted(seen)


def test_an_interrupt_leaves_no_thread_behind(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    before = threading.active_count()

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(path, threads=3, progress=interrupt)
    assert threading.active_count() == before


def test_what_a_thread_meets_is_raised(tmp_path, monkeypatch):
    path = tmp_path / "t.safetensors"
    write(path, SPEC, seed=SEED)
    monkeypatch.setattr(comparing._Reader, "_read", lambda *_: 0)
    with pytest.raises(ValueError, match=r"t\.safetensors became smaller while it was compared"):
        verify(path)


def test_a_missing_file_and_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "none.safetensors")
    write(tmp_path / "t.safetensors", SPEC, seed=SEED)
    with pytest.raises(ValueError, match="rows is for files of format raw and npy"):
        verify(tmp_path / "t.safetensors", rows=(0, 5))
    with pytest.raises(ValueError, match="rows is for a single file"):
        verify(tmp_path, rows=(0, 5))
    write(tmp_path / "t.bin", SPEC, seed=SEED)
    with pytest.raises(ValueError, match=r"must have 20 bytes by the recipe, and has"):
        verify(tmp_path / "t.bin", recipe=Recipe((TensorSpec("t", (5,), "float32", "normal"),), SEED))


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, TensorSpec("t", (600_000, 64), "float32", "normal"), seed=SEED)  # 154 MB
    code = f"""
import winit_fast.files
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) >> 10
before = peak()
assert winit_fast.files.verify({str(path)!r}, memory="32MiB", threads=2).is_right
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 32 + 20  # MiB
