"""The programs of docs/engines.md: each runs as it stands there, with the bits of one fill."""

import re
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from arrays import DTYPES
from processes import printed, python

import winit_fast

PAGE = Path(__file__).parents[1] / "docs" / "engines.md"
PROGRAMS = {
    section.partition("\n")[0]: code
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for code in re.findall(r"^```python\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
}
ROWS = 100_000


def expected(dtype):
    out = np.empty((ROWS, 64), DTYPES[dtype])
    return winit_fast.fill(out, "normal(std=0.01)", seed=7, name="user_id").tobytes()


def run(heading, folder, ranks=0, **environment):
    """Run the program under a heading, in a folder."""
    (folder / "program.py").write_text(PROGRAMS[heading])
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    done = python(*runner, "program.py", cwd=folder, **environment)
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_program_has_a_test():
    assert list(PROGRAMS) == [
        "Ray", "torchrun", "torch.distributed.checkpoint", "Orbax", "TensorStore", "HDF5", "TensorFlow",
        "S3 and other object stores",
    ]  # fmt: skip


def test_ray(tmp_path):
    pytest.importorskip("ray")
    zarr = pytest.importorskip("zarr")
    run("Ray", tmp_path, RAY_USAGE_STATS_ENABLED="0")
    assert zarr.open_array(tmp_path / "user_id.zarr")[:].tobytes() == expected("float32")


@pytest.mark.frameworks
def test_torchrun(tmp_path):
    pytest.importorskip("torch")
    run("torchrun", tmp_path, ranks=2)
    assert np.load(tmp_path / "user_id.npy").tobytes() == expected("float16")
    assert not (tmp_path / "user_id.npy.partial").exists()


@pytest.mark.frameworks
def test_torch_distributed_checkpoint(tmp_path):
    torch = pytest.importorskip("torch")
    import torch.distributed.checkpoint as dcp

    run("torch.distributed.checkpoint", tmp_path, ranks=2)
    assert len(list((tmp_path / "checkpoint").glob("*.distcp"))) == 2
    loaded = {"user_id": torch.zeros(ROWS, 64, dtype=torch.bfloat16)}
    dcp.load(loaded, checkpoint_id=tmp_path / "checkpoint", no_dist=True)
    assert loaded["user_id"].view(torch.int16).numpy().tobytes() == expected("bfloat16")


@pytest.mark.frameworks
def test_orbax(tmp_path):
    pytest.importorskip("orbax.checkpoint")
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    run("Orbax", tmp_path, **devices)
    code = """
import pathlib
import numpy as np, orbax.checkpoint
with orbax.checkpoint.StandardCheckpointer() as checkpointer:
    loaded = checkpointer.restore(pathlib.Path("checkpoint").absolute())
pathlib.Path("loaded").write_bytes(np.asarray(loaded["user_id"]).tobytes())
"""
    printed(code, cwd=tmp_path, **devices)
    assert (tmp_path / "loaded").read_bytes() == expected("bfloat16")


def test_tensorstore(tmp_path):
    pytest.importorskip("tensorstore")
    run("TensorStore", tmp_path)
    pytest.importorskip("zarr")
    from winit_fast import adapters

    assert adapters.zarr.verify(tmp_path / "user_id.zarr", "normal(std=0.01)", seed=7, name="user_id")


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    run("HDF5", tmp_path)
    with h5py.File(tmp_path / "user_id.h5") as file:
        table = file["user_id"]
        assert table.chunks is None
        assert table[:].tobytes() == expected("float32")
        start = table.id.get_offset()
    octets = (tmp_path / "user_id.h5").read_bytes()  # where others may map it, or write into it
    assert octets[start : start + ROWS * 64 * 4] == expected("float32")


@pytest.mark.frameworks
def test_tensorflow(tmp_path):
    tf = pytest.importorskip("tensorflow")
    run("TensorFlow", tmp_path, TF_CPP_MIN_LOG_LEVEL="2")
    reader = tf.train.load_checkpoint(str(tmp_path / "checkpoint" / "user_id"))
    parts = [reader.get_tensor(f"user_id/{part}/.ATTRIBUTES/VARIABLE_VALUE") for part in range(4)]
    assert np.concatenate(parts).tobytes() == expected("bfloat16")


class TestS3:
    @pytest.fixture
    def server(self):
        moto_server = pytest.importorskip("moto.server")
        server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        address = "http://{}:{}".format(*server.get_host_and_port())
        for path, method in (("moto-api/reset", "POST"), ("tables", "PUT")):  # its memory outlives it
            urllib.request.urlopen(urllib.request.Request(f"{address}/{path}", method=method)).close()
        yield address
        server.stop()

    @pytest.fixture
    def environment(self, server):
        return {
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server,
        }  # fmt: skip

    @pytest.fixture
    def store(self, server):
        obstore = pytest.importorskip("obstore")
        return obstore.store.S3Store(
            "tables", endpoint=server, access_key_id="test", secret_access_key="test", region="us-east-1",
            client_options={"allow_http": True},
        )  # fmt: skip

    def names(self, server, kind="Key", query="list-type=2"):
        """What the bucket says that it has; not by obstore, which takes no calls from within its own."""
        text = urllib.request.urlopen(f"{server}/tables?{query}").read().decode()
        return re.findall(f"<{kind}>(.*?)</{kind}>", text)

    def test_one_object_has_the_bits_of_one_fill(self, tmp_path, store, environment):
        run("S3 and other object stores", tmp_path, **environment)
        assert bytes(store.get("user_id.bin").bytes()) == expected("float32")

    def test_nothing_is_seen_before_all_is_there_and_an_error_leaves_nothing(self, store, server):
        seen = []
        namespace = {}
        exec(PROGRAMS["S3 and other object stores"].partition("\nstore = ")[0], namespace)

        def watched(fails):
            for number, part in enumerate(namespace["parts"]((ROWS, 64))):
                seen.extend(self.names(server))
                if fails and number == 8:
                    raise OSError("no more")
                yield part

        with pytest.raises(Exception, match="no more"):
            store.put("user_id.bin", watched(True), chunk_size=5 << 20, max_concurrency=2)
        assert self.names(server) == []
        assert self.names(server, "UploadId", "uploads") == []
        store.put("user_id.bin", watched(False), chunk_size=5 << 20, max_concurrency=2)
        assert self.names(server) == ["user_id.bin"]
        assert seen == []

    def test_zarr_arrays_are_filled_and_verified_there(self, store):
        zarr = pytest.importorskip("zarr")
        import winit_fast.adapters.zarr as adapter

        there = zarr.storage.ObjectStore(store)
        zarr.create_array(there, shape=(100, 16), dtype=DTYPES["bfloat16"], chunks=(10, 16), shards=(20, 16))
        for rank in range(2):
            adapter.init_(there, "normal(std=0.01)", seed=7, name="w", rank=rank, world_size=2)
        assert adapter.verify(there)
        store.delete("c/3/0")
        assert adapter.verify(there).missing == ("c/3/0",)
