"""Zarr arrays: the bits of `fill` for any chunks and ranks; what is missing, wrong or strange is found later."""

import json
import signal
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from arrays import DTYPES
from processes import ON_TWO_CPUS, printed, python

import winit_fast
from winit_fast import adapters
from winit_fast.__main__ import main

zarr = pytest.importorskip("zarr", minversion="3.1")

init_, verify = adapters.zarr.init_, adapters.zarr.verify
SHAPE = (50, 16)
PIECES = [{"chunks": (7, 16)}, {"chunks": (5, 4), "shards": (10, 8)}, {"chunks": (100, 100)}]


def expected(scheme="normal(std=0.01)", shape=SHAPE, dtype="float32", **axes):
    return winit_fast.fill(np.empty(shape, DTYPES[dtype]), scheme, seed=7, name="w", **axes)


def created(store=None, shape=SHAPE, dtype="float32", chunks=(7, 16), **others):
    return zarr.create_array({} if store is None else store, shape=shape, dtype=dtype, chunks=chunks, **others)


def filled(store=None, **arguments):
    return init_(created(store, **arguments), "normal(std=0.01)", seed=7, name="w")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pieces", PIECES)
def test_every_type_and_any_chunks_give_the_bits_of_one_fill(tmp_path, dtype, pieces):
    filled(tmp_path, dtype=DTYPES[dtype], **pieces)
    again = zarr.open_array(tmp_path)
    assert again.dtype == DTYPES[dtype]
    assert again[:].tobytes() == expected(dtype=dtype).tobytes()
    verdict = verify(again)
    assert verdict
    assert verdict == ((), (), (), (), (), again.nbytes)


@pytest.mark.parametrize("shape", [(), (0, 3), (13,), (3, 4, 5)])
def test_every_shape_is_filled_and_verified(shape):
    array = init_(created(shape=shape, chunks=tuple(max(1, size // 2) for size in shape)), "normal", seed=7, name="w")
    assert np.asarray(array[...]).tobytes() == expected("normal", shape).tobytes()
    assert verify(array)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_both_formats_are_filled(tmp_path, zarr_format):
    assert verify(filled(tmp_path, zarr_format=zarr_format)).leftovers == ()


@pytest.mark.parametrize("scheme", ["orthogonal", "sparse(0.5)"])
def test_elements_that_depend_on_each_other_have_the_bits_of_the_whole(scheme):
    array = init_(created(), scheme, seed=7, name="w")
    assert array[:].tobytes() == expected(scheme).tobytes()


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 40])
def test_ranks_in_any_order_write_each_shard_once(tmp_path, monkeypatch, pieces, world_size):
    created(tmp_path, **pieces)
    written = []
    put = zarr.storage.LocalStore.set

    async def counted(self, key, value):
        written.append(key)
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
    for rank in reversed(range(world_size)):
        init_(tmp_path, "normal(std=0.01)", seed=7, name="w", rank=rank, world_size=world_size)
    shards = [key for key in written if key != "zarr.json"]
    assert len(shards) == len(set(shards))
    assert zarr.open_array(tmp_path)[:].tobytes() == expected().tobytes()
    checked = [verify(tmp_path, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert all(checked)
    assert sum(verdict.checked_bytes for verdict in checked) == expected().nbytes


def test_the_recipe_is_written_before_any_value(tmp_path, monkeypatch):
    created(tmp_path)
    written = []
    put = zarr.storage.LocalStore.set

    async def counted(self, key, value):
        written.append(key)
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
    init_(tmp_path, "normal(std=0.01)", seed=7, name="w", padding_idx=3)
    assert written[0] == "zarr.json"
    assert len(written) == 1 + 8
    recipe = json.loads(zarr.open_array(tmp_path).attrs["winit_fast"])
    (tensor,) = recipe["tensors"]
    assert (recipe["seed"], tensor["shape"], tensor["padding_idx"]) == (7, [50, 16], 3)


def test_other_attributes_are_kept():
    array = created(attributes={"owner": "ads"})
    assert dict(init_(array, "ones").attrs).keys() == {"owner", "winit_fast"}


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"scheme": "he_norml"}, ValueError, "he_norml"),
        ({"seed": -1}, ValueError, "seed must be an int"),
        ({"seed": None, "world_size": 2}, TypeError, "seed must be an int where world_size is not 1, got None"),
        ({"seed": np.random.default_rng(0), "world_size": 2}, TypeError, "seed must be an int where"),
        ({"rank": 2, "world_size": 2}, ValueError, r"rank must be in \[0, world_size\) = \[0, 2\), got 2"),
        ({"rank": -1}, ValueError, r"rank must be in \[0, world_size\) = \[0, 1\), got -1"),
        ({"world_size": 0}, ValueError, "world_size must be 1 or more, got 0"),
        ({"rank": 0.5}, TypeError, "rank must be an int, got 0.5"),
        ({"padding_idx": 50}, ValueError, "padding_idx"),
        ({"in_axis": 5}, ValueError, "in_axis"),
        ({"name": 1.5}, TypeError, "name"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, changed, error, match):
    created(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(error, match=match):
        init_(tmp_path, **{"scheme": "he_normal", "seed": 7, **changed})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_types_that_fill_does_not_write_are_refused(dtype):
    with pytest.raises(TypeError, match="dtype"):
        init_(created(dtype=dtype), "ones")


def test_another_recipe_is_refused_so_that_ranks_cannot_disagree(tmp_path):
    filled(tmp_path)
    for changed in ({"seed": 8}, {"name": "v"}, {"scheme": "normal"}):
        with pytest.raises(ValueError, match=r"the array records another recipe, .*delete its attribute 'winit_fast'"):
            init_(tmp_path, **{"scheme": "normal(std=0.01)", "seed": 7, "name": "w", **changed})
    assert verify(filled(tmp_path, overwrite=True))


def test_resume_keeps_what_the_same_recipe_wrote_and_nothing_else(tmp_path):
    arguments = {"scheme": "normal(std=0.01)", "seed": 7, "name": "w", "resume": True}
    foreign = created(tmp_path)
    foreign[:7] = 1.0
    init_(tmp_path, **arguments)  # no recipe was recorded: nothing is kept
    assert verify(tmp_path)
    (tmp_path / "c" / "3" / "0").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("0") if path.is_file()}
    init_(tmp_path, **arguments)
    assert verify(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_resume_keeps_no_shard_that_is_older_than_the_recipe_or_damaged(tmp_path):
    arguments = {"scheme": "normal(std=0.01)", "seed": 7, "name": "w"}
    foreign = created(tmp_path)
    foreign[:] = 1.0
    init_(tmp_path, **arguments, rank=1, world_size=3)  # and the other ranks are killed before they begin
    for rank in (0, 2):
        init_(tmp_path, **arguments, rank=rank, world_size=3, resume=True)
    assert verify(tmp_path)
    (tmp_path / "c" / "3" / "0").write_bytes(b"damaged")
    init_(tmp_path, **arguments, resume=True)
    assert verify(tmp_path)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("place", [0, 100, -20, -2])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_damaged_shard_is_written_again_which_zarr_itself_refuses(resume, place, is_cut, tmp_path):
    filled(tmp_path, chunks=(5, 16), shards=(10, 16))
    path = tmp_path / "c" / "2" / "0"
    octets = bytearray(path.read_bytes())
    octets[place] ^= 1
    path.write_bytes(octets[:place] if is_cut else octets)
    init_(tmp_path, "normal(std=0.01)", seed=7, name="w", resume=resume)
    assert verify(tmp_path)


def test_a_shard_is_compared_in_little_more_memory_than_zarr_takes_to_read_it(tmp_path):
    """It was once made again as a whole beside the one that was read: 8 MiB."""
    array = created(tmp_path, shape=(4096, 2048), dtype="float16", chunks=(2048, 2048), compressors=None)
    arguments = {"scheme": "normal(std=0.01)", "seed": 7, "name": "w", "threads": 1}
    init_(array, **arguments)
    peaks = []
    for call in (lambda: [array[part : part + 2048].shape for part in (0, 2048)],
                 lambda: init_(tmp_path, **arguments, resume=True), lambda: verify(tmp_path, threads=1)):  # fmt: skip
        tracemalloc.start()
        try:
            call()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    read, resumed, verified = peaks
    assert read > 8 << 20
    assert max(resumed, verified) < read + (3 << 20)


class TestVerify:
    def test_missing_shards_are_found_which_zarr_reads_as_the_fill_value(self, tmp_path):
        array = filled(tmp_path)
        (tmp_path / "c" / "3" / "0").unlink()
        assert not array[21:28].any()
        verdict = verify(tmp_path)
        assert not verdict
        assert (verdict.missing, verdict.differences) == (("c/3/0",), ())

    def test_a_shard_of_zeros_is_there_and_is_missed(self, tmp_path):
        init_(created(tmp_path), "zeros")
        assert verify(tmp_path)
        (tmp_path / "c" / "3" / "0").unlink()
        assert verify(tmp_path).missing == ("c/3/0",)

    @pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128"])
    def test_one_wrong_bit_is_found_where_it_is(self, dtype):
        kind = DTYPES.get(dtype, np.dtype(dtype))
        array = filled(dtype=kind)
        right = array[23, 5]
        octets = bytearray(right.tobytes())
        octets[0] ^= 1
        array[23, 5] = np.frombuffer(bytes(octets), kind)[0]
        verdict = verify(array)
        assert not verdict
        (difference,) = verdict.differences
        assert (difference.tensor, difference.index, difference.path) == ("w", (23, 5), Path("c/3/0"))
        assert (difference.found.tobytes(), difference.expected.tobytes()) == (bytes(octets), right.tobytes())

    def test_a_flipped_byte_of_a_compressed_shard_is_found(self, tmp_path):
        filled(tmp_path, compressors=[zarr.codecs.ZstdCodec(checksum=True)])
        path = tmp_path / "c" / "3" / "0"
        octets = bytearray(path.read_bytes())
        octets[len(octets) // 2] ^= 1
        path.write_bytes(octets)
        verdict = verify(tmp_path)
        assert not verdict
        assert verdict.missing == ("c/3/0 cannot be decoded",)

    @pytest.mark.parametrize("codec", ["GzipCodec", "ZstdCodec", "BloscCodec"])
    def test_garbage_in_the_place_of_a_shard_is_found(self, codec, tmp_path):
        filled(tmp_path, compressors=[getattr(zarr.codecs, codec)()])
        (tmp_path / "c" / "3" / "0").write_bytes(b"garbage" * 5)
        assert verify(tmp_path).missing == ("c/3/0 cannot be decoded",)

    def test_a_truncated_shard_is_found(self, tmp_path):
        filled(tmp_path, compressors=None)
        path = tmp_path / "c" / "3" / "0"
        path.write_bytes(path.read_bytes()[:-4])
        assert verify(tmp_path).missing == ("c/3/0 cannot be decoded",)

    def test_what_zarr_does_not_read_is_left_over_and_harms_nothing(self, tmp_path):
        filled(tmp_path)
        (tmp_path / "c" / "99").mkdir()
        others = ("c/3/0.1234.partial", "c/3/0.partial", "c/3/00", "c/99/0", "c/3/0-", "c3/0", "zarr.json~")
        for name in others:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        verdict = verify(tmp_path)
        assert verdict
        assert verdict.leftovers == tuple(sorted(others))

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_the_command_compares_a_folder_that_is_an_array(self, zarr_format, tmp_path, capsys):
        filled(tmp_path, chunks=(10, 16), compressors=None, zarr_format=zarr_format)
        assert main(["verify", str(tmp_path)]) == 0
        assert capsys.readouterr().out == "compared 3.2 kB: all of it is as it should be\n"
        keys = ["c/1/0", "c/3/0"] if zarr_format == 3 else ["1.0", "3.0"]
        (tmp_path / keys[0]).unlink()
        (tmp_path / keys[1]).write_bytes(bytes(10 * 16 * 4))
        (tmp_path / "x.partial").write_bytes(b"")
        assert main(["verify", str(tmp_path)]) == 1
        difference, missing, left_over = capsys.readouterr().out.splitlines()
        assert difference == f"w (30, 0): found 0.0, expected {expected()[30, 0]!s} in {keys[1]}"
        assert (missing, left_over) == (f"missing: {keys[0]}", "left over: x.partial")

    @pytest.mark.parametrize("options", [["--sample", "5"], ["--rows", "0:5"], ["--shape", "50x16"]])
    def test_the_command_refuses_what_an_array_says_itself(self, options, tmp_path, capsys):
        filled(tmp_path)
        others = ["--scheme", "ones", "--name", "w"] if "--shape" in options else []
        assert main(["verify", str(tmp_path), *options, *others]) == 2
        assert f"{options[0]} " in capsys.readouterr().err

    def test_the_command_says_that_a_group_is_no_array(self, tmp_path, capsys):
        zarr.create_group(tmp_path)
        assert main(["verify", str(tmp_path)]) == 2
        assert "verify: " in capsys.readouterr().err

    def test_the_verdict_is_that_of_files(self):
        assert type(verify(filled())) is winit_fast.files.Verdict

    def test_the_shards_of_an_array_are_never_listed(self):
        """What metadata claim takes no memory: a row of 10^15 chunks was once a list."""
        array = created(shape=(2 * 10**15,), chunks=(2,))
        for rank, first in ((0, 0), (10**15 - 1, 10**15 - 1)):
            (shard,) = adapters.zarr._Shards(array, rank, 10**15)
            assert shard.region == (slice(2 * first, 2 * first + 2),)
            assert shard.key == f"c/{first}"

    def test_arrays_of_a_group_have_their_own_keys(self, tmp_path):
        group = zarr.create_group(tmp_path)
        for name in ("one", "one_more"):
            group.create_array(name, shape=SHAPE, dtype="float32", chunks=(7, 16))
            init_(group[name], "normal(std=0.01)", seed=7, name=name)
        (tmp_path / "one" / "c" / "3" / "0").unlink()
        assert verify(group["one"]).missing == ("c/3/0",)
        assert verify(group["one_more"]) == ((), (), (), (), (), expected().nbytes)

    def test_arguments_stand_for_a_recipe_that_was_not_recorded(self):
        array = created()
        with pytest.raises(ValueError, match="scheme must be given where the array has no recipe as attribute"):
            verify(array)
        array[:] = expected()
        assert verify(array, "normal(std=0.01)", seed=7, name="w")
        assert len(verify(array, "normal(std=0.01)", seed=8, name="w").differences) == 8

    def test_a_recipe_of_another_array_or_of_nonsense_is_refused(self):
        array = filled()
        text = array.attrs["winit_fast"]
        for wrong in (text.replace("50", "51"), text.replace("float32", "float64"), "{", "[]", '"x"', 7, None, ""):
            array.update_attributes({"winit_fast": wrong})
            with pytest.raises(ValueError, match=r"recipe|attribute 'winit_fast'"):
                verify(array)


DYING = """
import os, signal
from pathlib import Path
from winit_fast import adapters
from winit_fast.__main__ import main
calls, replace = [], Path.replace
def dying(self, target):
    calls.append(target)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = dying
adapters.zarr.init_("t", "normal(std=0.01)", seed=7, name="w")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no such signal")
def test_a_process_killed_while_it_writes_is_found_and_resumed(tmp_path):
    created(tmp_path / "t")
    assert python("-c", DYING, cwd=tmp_path).returncode == -signal.SIGKILL
    verdict = verify(tmp_path / "t")
    assert len(verdict.missing) == 8 - 2  # the recipe was the first of three renames
    assert len(verdict.leftovers) == 1
    init_(tmp_path / "t", "normal(std=0.01)", seed=7, name="w", resume=True)
    assert verify(tmp_path / "t")


MEMORY = (
    ON_TWO_CPUS
    + """
import resource, tempfile
import zarr
from winit_fast import adapters
from winit_fast.__main__ import main
with tempfile.TemporaryDirectory() as folder:
    shape = (SHARDS * 4096, 1024)
    array = zarr.create_array(folder, shape=shape, dtype="float16", chunks=(4096, 1024), compressors=None)
    adapters.zarr.init_(array, "normal(std=0.01)", seed=7, name="w")
    assert adapters.zarr.verify(array)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
def test_memory_does_not_grow_with_the_array():
    """By eight MiB a shard, 4 or 40 of them."""
    few, many = (int(printed(f"SHARDS = {count}\n{MEMORY}")) for count in (4, 40))
    assert many - few < 64


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float32"])
class TestTensorStore:
    @pytest.fixture(autouse=True)
    def tensorstore(self):
        return pytest.importorskip("tensorstore")

    def opened(self, tensorstore, path, **others):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        return tensorstore.open(spec, **others).result()

    @pytest.mark.parametrize("pieces", PIECES)
    def test_it_reads_what_zarr_wrote(self, tensorstore, tmp_path, dtype, pieces):
        filled(tmp_path, dtype=DTYPES[dtype], **pieces)
        read = self.opened(tensorstore, tmp_path, open=True).read().result()
        assert read.dtype == DTYPES[dtype]
        assert read.tobytes() == expected(dtype=dtype).tobytes()

    def test_zarr_fills_and_verifies_what_it_created(self, tensorstore, tmp_path, dtype):
        layout = tensorstore.ChunkLayout(write_chunk_shape=[20, 16], read_chunk_shape=[10, 16])
        self.opened(
            tensorstore, tmp_path, create=True, dtype=getattr(tensorstore, dtype), shape=SHAPE, chunk_layout=layout
        )
        init_(tmp_path, "normal(std=0.01)", seed=7, name="w")
        assert verify(tmp_path)
        read = self.opened(tensorstore, tmp_path, open=True).read().result()
        assert read.tobytes() == expected(dtype=dtype).tobytes()


def test_format_2_has_no_such_types(tmp_path):
    with pytest.raises(ValueError, match=r"Zarr format 2 has no bfloat16: use zarr_format=3"):
        created(tmp_path, dtype=DTYPES["bfloat16"], zarr_format=2)


def test_types_that_zarr_has_of_its_own_are_left_alone():
    code = """
import zarr
from zarr.dtype import data_type_registry, Float32
class Own(Float32):
    _zarr_v3_name = "bfloat16"
data_type_registry.register("bfloat16", Own)
from winit_fast import adapters
from winit_fast.__main__ import main
adapters.zarr
print(data_type_registry.contents["bfloat16"] is Own, "float8_e5m2" in data_type_registry.contents)
"""
    assert printed(code) == "True True\n"
