"""Dask arrays: the bits of `fill` for any blocks, on any workers, and no chunk with two writers."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from arrays import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import printed

import winit_fast
from winit_fast import adapters

dask = pytest.importorskip("dask")
dask_array = pytest.importorskip("dask.array")

init = adapters.dask.init
SHAPE = (37, 19)


def expected(scheme, shape=SHAPE, dtype="float32", **axes):
    return winit_fast.fill(np.empty(shape, DTYPES[dtype]), scheme, seed=7, name="w", **axes)


def computed(array):
    return array.compute(scheduler="synchronous")


def cuts(size):
    """The sizes of blocks along one axis; some may be empty."""
    return st.lists(st.integers(0, size), max_size=3).map(
        lambda at: tuple(int(length) for length in np.diff([0, *sorted(at), size]))
    )


@settings(max_examples=30, deadline=None)
@given(shape=st.lists(st.integers(0, 9), max_size=3).map(tuple), data=st.data())
def test_any_blocks_give_the_bits_of_one_fill(shape, data):
    chunks = tuple(data.draw(cuts(size)) for size in shape)
    made = init(shape, "normal(std=0.01)", seed=7, name="w", chunks=chunks)
    assert made.chunks == chunks
    assert computed(made).tobytes() == expected("normal(std=0.01)", shape).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_gives_the_bits_of_one_fill(dtype):
    made = init(SHAPE, "he_normal", seed=7, name="w", dtype=dtype, chunks=(10, 7))
    assert made.dtype == DTYPES[dtype]
    assert computed(made).tobytes() == expected("he_normal", dtype=dtype).tobytes()


@pytest.mark.parametrize("scheme", ["orthogonal", "sparse(0.5)", "identity", "constant(0.5)"])
def test_elements_that_depend_on_each_other_have_the_bits_of_the_whole(scheme):
    seed = None if scheme in ("identity", "constant(0.5)") else 7
    made = init(SHAPE, scheme, seed=seed, name="w", chunks=(10, 7))
    assert computed(made).tobytes() == expected(scheme).tobytes()


def test_axes_and_padding_are_those_of_fill():
    axes = {"in_axis": 1, "out_axis": 0, "padding_idx": 3}
    made = init(SHAPE, "he_normal", seed=7, name="w", chunks=(2, 19), **axes)
    assert computed(made).tobytes() == expected("he_normal", **axes).tobytes()


def test_a_block_is_filled_by_one_thread(monkeypatch):
    threads = []
    original = winit_fast.initializer.Initializer.fill
    monkeypatch.setattr(
        winit_fast.initializer.Initializer,
        "fill",
        lambda self, out, **arguments: threads.append(arguments["threads"]) or original(self, out, **arguments),
    )
    made = init(SHAPE, "normal", seed=7, chunks=(20, 19))
    threads.clear()
    computed(made)
    assert threads == [1, 1]


NAMES = """
from winit_fast import adapters
print(adapters.dask.init((37, 19), "he_normal", seed=7, name="w", chunks=(10, 7)).name)
"""


def test_equal_arguments_give_equal_names_in_every_process_and_others_give_others():
    def name_of(**changed):
        arguments = {"shape": SHAPE, "scheme": "he_normal", "seed": 7, "name": "w", "chunks": (10, 7), **changed}
        return init(**arguments).name

    own = name_of()
    assert printed(NAMES).strip() == own
    assert name_of(scheme="kaiming_normal", chunks=[10, 7]) == own
    others = [{"seed": 8}, {"name": "v"}, {"chunks": (10, 8)}, {"dtype": "float64"}, {"padding_idx": 0}, {"in_axis": 0},
              {"shape": (37, 20)}, {"scheme": "he_uniform"}]  # fmt: skip
    assert len({own, *(name_of(**changed) for changed in others)}) == 1 + len(others)


def test_a_seed_that_is_drawn_is_drawn_once():
    made = init(SHAPE, "normal", chunks=(10, 7))
    assert computed(made).tobytes() == computed(made).tobytes()
    assert computed(init(SHAPE, "normal")).tobytes() != computed(made).tobytes()
    first, second = (init(SHAPE, "normal", seed=np.random.default_rng(0)) for _ in range(2))
    assert first.name == second.name


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"scheme": "he_norml"}, ValueError, "he_norml"),
        ({"seed": -1}, ValueError, r"seed must be an int in \[0, 2\^64\), got -1"),
        ({"dtype": "int32"}, TypeError, "dtype"),
        ({"dtype": ">f4"}, TypeError, "dtype"),
        ({"dtype": "float8_e4m3fn", "scheme": "normal(std=1000)"}, ValueError, "float8_e4m3fn"),
        ({"shape": (3, -1)}, ValueError, "shape"),
        ({"padding_idx": 37}, ValueError, "padding_idx"),
        ({"in_axis": 5}, ValueError, "in_axis"),
        ({"name": 1.5}, TypeError, "name"),
        ({"chunks": (0, 3)}, ValueError, r"chunks must be such as Dask reads for shape \(37, 19\), got \(0, 3\)"),
        ({"chunks": ((38, -1), (19,))}, ValueError, "chunks must be"),
        ({"chunks": ((30, 3), (19,))}, ValueError, "chunks must be"),
        ({"chunks": "many"}, ValueError, "chunks must be .* got 'many'"),
        ({"chunks": None}, ValueError, "chunks must be"),
        ({"threads": 2}, TypeError, "threads"),
    ],
)
def test_wrong_arguments_are_refused_before_there_is_a_graph(changed, error, match):
    with pytest.raises(error, match=match):
        init(**{"shape": SHAPE, "scheme": "he_normal", "seed": 7, **changed})


def test_a_generator_is_not_drawn_from_when_an_argument_is_refused():
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    with pytest.raises(ValueError, match="padding_idx"):
        init(SHAPE, "normal", seed=generator, padding_idx=99)
    assert generator.bit_generator.state == before


def test_arrays_of_dask_are_not_filled_in_place():
    with pytest.raises(TypeError, match=r"x must be writable, got Array: adapters\.dask\.init makes a new one"):
        adapters.init_(init(SHAPE, "ones"), "zeros")


class TestZarr:
    @pytest.fixture(autouse=True)
    def zarr(self):
        return pytest.importorskip("zarr")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_blocks_of_whole_shards_are_written_with_the_bits_of_one_fill(self, tmp_path, dtype):
        table = init((50, 16), "normal(std=0.01)", seed=7, name="w", dtype=dtype, chunks=(20, 16))
        made = adapters.dask.to_zarr(table, tmp_path / "t", chunks=(5, 16), shards=(10, 16), name="w")
        assert made[:].tobytes() == expected("normal(std=0.01)", (50, 16), dtype).tobytes()
        assert adapters.zarr.verify(tmp_path / "t/w")

    @pytest.mark.parametrize(
        "given",
        [
            {"scheme": "normal(std=0.01)", "seed": 7, "name": "w", "padding_idx": 3},
            {"scheme": "kaiming_normal", "seed": 7, "name": 5, "in_axis": 0, "out_axis": 1},
            {"scheme": "he_normal", "seed": np.random.default_rng(3), "matrices": 2},
            {"scheme": "zeros"},
        ],
    )
    def test_the_recipe_is_recorded_as_by_the_adapter_of_zarr_and_verified(self, tmp_path, zarr, given, monkeypatch):
        written = []
        put = zarr.storage.LocalStore.set

        async def counted(self, key, value):
            written.append(key)
            await put(self, key, value)

        monkeypatch.setattr(zarr.storage.LocalStore, "set", counted)
        table = init((50, 16), chunks=(20, 16), **given)
        made = adapters.dask.to_zarr(table, tmp_path / "t", attributes={"owner": "ads"})
        assert written[0] == "zarr.json"
        assert written.count("zarr.json") == 1
        given["seed"] = json.loads(made.attrs["winit_fast"])["seed"]
        target = zarr.create_array(tmp_path / "z", shape=(50, 16), dtype="float32", chunks=(20, 16))
        adapters.zarr.init_(target, **given)
        assert dict(made.attrs) == {"owner": "ads", **dict(zarr.open_array(tmp_path / "z").attrs)}
        assert adapters.zarr.verify(tmp_path / "t")
        (tmp_path / "t" / "c" / "1" / "0").unlink()
        assert not adapters.zarr.verify(tmp_path / "t")

    def test_the_recipe_of_what_was_rechunked_is_recorded_and_of_what_was_computed_is_not(self, zarr):
        table = init((50, 16), "normal", seed=7, name="w", chunks=(20, 8))
        for again in (table.rechunk((10, 16)), table.rechunk((25, 4)).rechunk((50, 16)), table.rechunk((20, 8))):
            assert adapters.zarr.verify(adapters.dask.to_zarr(again, {}))
        others = [table + 1, -table, table[:20], table.rechunk((10, 16)) * 2, table.T, table.persist(),
                  dask_array.concatenate([table, table]).rechunk((10, 16)), dask_array.ones((50, 16))]  # fmt: skip
        for other in others:
            assert "winit_fast" not in adapters.dask.to_zarr(other, {}, attributes={"owner": "ads"}).attrs

    def test_a_target_that_records_another_recipe_is_refused(self, zarr):
        table, other = (init((50, 16), "normal", seed=seed, name="w", chunks=(20, 16)) for seed in (7, 8))
        target = zarr.create_array({}, shape=(50, 16), dtype="float32", chunks=(20, 16))
        adapters.dask.store(table, target)
        assert adapters.zarr.verify(target)
        with pytest.raises(ValueError, match="the array records another recipe"):
            adapters.dask.store(other, target)
        assert adapters.zarr.verify(target)
        adapters.dask.store(table, target)
        assert adapters.zarr.verify(target)

    def test_chunks_that_equal_the_fill_value_are_written_too(self, tmp_path):
        made = adapters.dask.to_zarr(init((50, 16), "zeros", chunks=(20, 16)), tmp_path / "t")
        assert made.nchunks_initialized == 3
        assert made.chunks == (20, 16)

    @pytest.mark.parametrize(
        ("pieces", "match"),
        [
            ({"chunks": (40, 16)}, "multiples of 40 along axis 0, as chunks do, got one at 20"),
            ({"chunks": (30, 16)}, "got one at 20"),
            ({"chunks": (10, 16), "shards": (50, 16)}, "multiples of 50 along axis 0, as shards do"),
            ({"chunks": (10, 5)}, "multiples of 5 along axis 1, as chunks do, got one at 8"),
            ({"chunks": (10,)}, "chunks must be of 2 axes"),
        ],
    )
    def test_chunks_that_two_tasks_would_write_are_refused_and_nothing_is_written(self, tmp_path, zarr, pieces, match):
        table = init((50, 16), "normal", seed=7, chunks=(20, 8))
        with pytest.raises(ValueError, match=match):
            adapters.dask.to_zarr(table, tmp_path / "t", **pieces)
        assert not (tmp_path / "t").exists()
        target = zarr.create_array({}, shape=(50, 16), dtype="float32", **pieces) if len(pieces["chunks"]) > 1 else None
        if target is not None:
            with pytest.raises(ValueError, match=match):
                adapters.dask.store(table, target)
            assert target.nchunks_initialized == 0

    @pytest.mark.parametrize(
        ("target", "error", "match"),
        [
            (lambda zarr: np.empty((50, 16), "float32"), TypeError, "every worker reaches, .* got ndarray"),
            (lambda zarr: zarr.create_array({}, shape=(50, 15), dtype="f4", chunks=(20, 8)), ValueError, "shape"),
            (
                lambda zarr: SimpleNamespace(chunks=None, shape=(50, 16), dtype="f4"),
                ValueError,
                "got one of chunks None",
            ),
            (lambda zarr: zarr.create_array({}, shape=(50, 16), dtype="f8", chunks=(20, 8)), ValueError, "dtype"),
        ],
    )
    def test_targets_that_would_lose_or_change_values_are_refused(self, zarr, target, error, match):
        with pytest.raises(error, match=match):
            adapters.dask.store(init((50, 16), "normal", seed=7, chunks=(20, 8)), target(zarr))

    def test_a_store_in_memory_is_filled_by_this_process_whatever_the_scheduler(self, zarr):
        with dask.config.set(scheduler="processes"):
            made = adapters.dask.to_zarr(init((50, 16), "normal", seed=7, name="w", chunks=(20, 16)), {})
        assert made[:].tobytes() == expected("normal", (50, 16)).tobytes()

    def test_what_is_no_dask_array_is_refused(self, zarr):
        with pytest.raises(TypeError, match=r"array must be a dask\.array\.Array, got ndarray"):
            adapters.dask.store(np.empty(3), zarr.create_array({}, shape=(3,), dtype="f8"))

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no such signal")
    def test_bits_are_right_after_a_worker_was_killed_while_it_wrote(self, tmp_path):
        distributed = pytest.importorskip("distributed")
        shape, arguments = (64, 1024), {"seed": 7, "name": "w"}
        table = init(shape, "normal(std=0.01)", dtype="bfloat16", chunks=(2, 1024), **arguments)
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=2, dashboard_address=None, local_directory=tmp_path / "scratch"
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            victim = next(iter(client.scheduler_info()["workers"]))
            client.run(_die_at_the_third_rename, workers=[victim])
            made = adapters.dask.to_zarr(table, tmp_path / "t", chunks=(2, 1024))
        assert list((tmp_path / "t").rglob("*.partial"))  # it died while it wrote
        assert made[:].tobytes() == expected("normal(std=0.01)", shape, "bfloat16").tobytes()
        verdict = adapters.zarr.verify(made)
        assert verdict
        assert verdict.leftovers


def _die_at_the_third_rename():
    calls = []
    replace = Path.replace

    def dying(self, target):
        calls.append(target)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = dying
