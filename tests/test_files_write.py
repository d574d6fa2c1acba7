"""`winit_fast.files.write`: one file or a folder of them, in bounded memory, continued as a whole."""

import tracemalloc
from types import SimpleNamespace

import pytest
from processes import printed
from written_files import SEED, TensorSpec, contents, expected, make

import winit_fast
from winit_fast import files
from winit_fast.files import writes, writing
from winit_fast.files.plans import plan_rank
from winit_fast.files.writes import FileToWrite, write_files

MEMORY = 1 << 17
RECIPE, _ = make(("user_id", (3001, 67), "float16"), ("bias", (33,), "float32"), ("item_id", (2001, 33), "float32"))


def planned(folder):
    """Three files, each of a tensor."""
    made = [make((spec.name, spec.shape, spec.dtype)) for spec in RECIPE.tensors]
    paths = [folder / f"{number}.bin" for number in range(3)]
    return [FileToWrite(path, layout) for path, (_, layout) in zip(paths, made, strict=True)]


def right(folder):
    return {one.path.name: expected(RECIPE, one.layout) for one in planned(folder)}


def test_files_are_reached_without_an_import():
    assert printed("import winit_fast; print(winit_fast.files.TensorSpec.__name__)") == "TensorSpec\n"
    assert printed("import winit_fast, sys; print('winit_fast.files' in sys.modules)") == "False\n"
    assert winit_fast.files is files
    for name in files.__all__:
        assert hasattr(files, name)


def test_a_folder_is_made_and_its_files_are_written_one_after_the_other(tmp_path):
    folder, seen = tmp_path / "model", []
    total = sum(one.layout.size for one in planned(folder))
    progress = lambda *given: seen.append(given)  # noqa: E731
    written = write_files(folder, planned(folder), RECIPE, memory=MEMORY, progress=progress)
    assert written == (folder, total, 0, total)
    assert contents(folder) == right(folder)
    assert seen[0] == (0, total)
    assert seen[-1] == (total, total)
    assert seen == sorted(seen)
    again = write_files(folder, planned(folder), RECIPE, memory=MEMORY, resume=True)
    assert again == (folder, total, total, 0)


def test_a_folder_that_was_interrupted_is_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_REPORT_SECONDS", 0.0)
    folder = tmp_path / "model"
    first, last = planned(folder)[0].layout.size, planned(folder)[2].layout.size

    def stop(done, total):
        if done > total - last // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_files(folder, planned(folder), RECIPE, memory=MEMORY, progress=stop)
    assert sorted(contents(folder)) == ["0.bin", "1.bin", "2.bin.partial", "2.bin.partial.journal"]
    written = write_files(folder, planned(folder), RECIPE, memory=MEMORY, resume=True)
    assert first < written.kept < written.size
    assert contents(folder) == right(folder)


def test_what_stands_in_a_folder_is_refused_before_anything_is_written(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "2.bin").write_bytes(b"old")
    with pytest.raises(FileExistsError, match=r"2\.bin exists already"):
        write_files(folder, planned(folder), RECIPE, memory=MEMORY)
    assert contents(folder) == {"2.bin": b"old"}
    write_files(folder, planned(folder), RECIPE, memory=MEMORY, force=True)
    assert contents(folder) == right(folder)
    missing = tmp_path / "missing" / "model"
    with pytest.raises(FileNotFoundError, match=r"must be in a folder that exists, but .*missing does not"):
        write_files(missing, planned(missing), RECIPE, memory=MEMORY)
    recipe, layout = make(("a", (1 << 40, 64), "float32"))
    with pytest.raises(OSError, match="bytes are needed"):
        write_files(tmp_path / "new", [*planned(tmp_path / "new"), FileToWrite(tmp_path / "new" / "a", layout)], recipe,
                    memory=MEMORY)  # fmt: skip
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [("memory", 1000), ("threads", 0), ("rank", 2), ("rank", -1), ("rank", "0"), ("world_size", 0)],
)
def test_an_argument_that_cannot_be_used_is_refused_before_a_folder_is_made(tmp_path, argument, wrong):
    spec = TensorSpec("user_id", (3001, 67), "bfloat16", "he_normal")
    given = {"seed": SEED, "format": "dcp", "rank": 1, "world_size": 2, argument: wrong}
    with pytest.raises((TypeError, ValueError), match=argument):
        files.write(tmp_path / "t", spec, **given)
    assert contents(tmp_path) == {}


@pytest.fixture
def plans(monkeypatch):
    """A plan of one file of raw values."""
    asked = []

    def plan(path, specs, rank, *, seed, **options):
        asked.append(options)
        recipe, layout = make(specs, seed=seed, header=0)
        files_of_it = [SimpleNamespace(path=path, layout=layout, rank=0)]
        return SimpleNamespace(recipe=recipe, path=path, format="raw", files=files_of_it)

    monkeypatch.setattr(writes, "plan_rank", plan)
    return asked


def test_a_recipe_is_written_with_its_own_seed(tmp_path):
    spec = TensorSpec("user_id", (30, 7), "float16", "normal")
    recipe = files.Recipe((spec,), 8)
    files.write(tmp_path / "a.raw", spec, seed=8)
    for name, given in (("b.raw", {}), ("c.raw", {"seed": 8})):
        assert files.plan(tmp_path / name, recipe, **given) == files.plan(tmp_path / name, spec, seed=8)
        files.write(tmp_path / name, recipe, **given)
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.raw").read_bytes()
    for call in (files.write, files.plan):
        with pytest.raises(ValueError, match="seed must be that of the recipe, 8, or left out; got 7"):
            call(tmp_path / "d.raw", recipe, seed=7)
        with pytest.raises(ValueError, match="tensors must be one or more, got none"):
            call(tmp_path / "d.raw", files.Recipe((), 8))
    assert not (tmp_path / "d.raw").exists()


def test_a_tensor_is_written_by_its_plan(plans, tmp_path):
    spec = TensorSpec("user_id", (3001, 67), "bfloat16", "he_normal")
    written = files.write(tmp_path / "t", spec, seed=SEED, memory="1MiB", max_file_size="5GB", rows=(3, 5))
    assert written == (tmp_path / "t", spec.nbytes, 0, spec.nbytes)
    assert contents(tmp_path) == {"t": expected(*make(spec, header=0))}
    assert plans == [{"format": None, "world_size": 1, "max_file_size": "5GB", "rows": (3, 5)}]
    with pytest.raises(ValueError, match=r"t exists already, and does not say how it was made: tensors must be given"):
        files.write(tmp_path / "t", resume=True)
    assert files.write(tmp_path / "t", spec, seed=SEED, resume=True).written == 0
    with pytest.raises(ValueError, match="tensors must be given, unless resume=True continues a file"):
        files.write(tmp_path / "t")
    with pytest.raises(ValueError, match="memory must be a number of bytes"):
        files.write(tmp_path / "t", spec, seed=SEED, memory="much")
    with pytest.raises(FileNotFoundError, match=r"nothing to continue: neither .*new nor .*new\.partial is there"):
        files.write(tmp_path / "new", resume=True)


@pytest.mark.parametrize("given", [{"format": "dcp"}, {"format": "hf", "max_file_size": 4}])
def test_a_rank_lays_out_its_own_files_alone(given, tmp_path):
    """Each header has the recipe: those of all ranks are large together."""
    specs = [TensorSpec(f"layer.{k}.weight", (300,), "float32", "normal(std=0.01)") for k in range(300)]
    whole = {
        one.path: (one.rank, one.layout)
        for one in files.plan(tmp_path / "x", specs, seed=7, world_size=5, **given).files
    }
    found = {}
    for rank in range(5):
        options = {"format": "dcp", "max_file_size": None, "rows": None, "world_size": 5, "seed": 7} | given
        planned = plan_rank(tmp_path / "x", specs, rank, **options)
        assert {one.rank for one in planned.files} == {rank}
        found |= {one.path: (one.rank, one.layout) for one in planned.files}
    assert found == whole
    tracemalloc.start()
    try:
        files.write(tmp_path / "x", specs, seed=7, rank=299, world_size=300, memory=1 << 17, **given)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 << 20  # 300 headers are 12 MB


@pytest.mark.parametrize("given", [{"format": "dcp"}, {"format": "hf", "max_file_size": 4}])
def test_of_other_ranks_those_with_files_are_compared_by_one_text_of_the_recipe(given, tmp_path, monkeypatch):
    specs = [TensorSpec(f"layer.{k}.weight", (40,), "float32", "normal(std=0.01)") for k in range(40)]
    for rank in (0, 3):
        files.write(tmp_path / "x", specs, seed=7, rank=rank, world_size=5, **given)
    laid_out, texts = [], []
    plan_one, get_config = writes.plan_rank, TensorSpec.get_config
    monkeypatch.setattr(writes, "plan_rank", lambda *a, **k: laid_out.append(a[2]) or plan_one(*a, **k))
    monkeypatch.setattr(TensorSpec, "get_config", lambda self: texts.append(self) or get_config(self))
    files.write(tmp_path / "x", specs, seed=7, rank=4, world_size=5, **given)
    assert laid_out == [4, 0, 3]
    assert len(texts) == len(specs)


PARTS = [TensorSpec("b", (30, 7), "float16", "normal"), TensorSpec("a", (0, 3), "float32", "ones"),
         TensorSpec("c", (), "float16", "ones")]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "asked", "name"),
    [
        ({}, "t.safetensors", "t.safetensors"),
        ({"format": "safetensors"}, "t.weights", "t.weights"),
        ({"format": "dcp", "world_size": 2}, "t", "t/shard-00001-model-00001-of-00001.safetensors"),
        ({"format": "hf"}, "t", "t/model.safetensors"),
        ({"format": "hf", "max_file_size": 1}, "t", "t/model-00001-of-00003.safetensors"),
    ],
)
def test_a_complete_file_of_safetensors_is_resumed_by_its_name_alone(given, asked, name, tmp_path):
    files.write(tmp_path / asked, PARTS, seed=SEED, **given)
    path = tmp_path / name
    before = path.read_bytes()
    assert files.write(path, resume=True) == (path, len(before), len(before), 0)
    assert path.read_bytes() == before
    path.write_bytes(before[:4096] + bytes(len(before) - 4096))
    with pytest.raises(FileExistsError, match="is not what is asked for"):
        files.write(path, resume=True)
    path.write_bytes(before.replace(b'"b":{"dtype":"F16"', b'"b":{"dtype":"I16"'))
    with pytest.raises(ValueError, match="exists already, and is not what its recipe says"):
        files.write(path, resume=True)


def test_a_complete_file_of_some_rows_is_resumed_by_its_name_alone(tmp_path):
    written = files.write(tmp_path / "t.safetensors", PARTS[0], seed=SEED, rows=(0, 30))
    assert files.write(tmp_path / "t.safetensors", resume=True) == (*written[:2], written.size, 0)


def test_a_file_that_knows_its_recipe_is_written_anew_from_it(tmp_path):
    path = tmp_path / "a.safetensors"
    files.write(path, TensorSpec("a", (100, 8), "float16", "normal"), seed=SEED)
    right = path.read_bytes()
    path.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    assert not files.verify(path)
    files.write(path, force=True)
    assert path.read_bytes() == right
    for other in ("a.npy", "a.raw"):
        files.write(tmp_path / other, TensorSpec("a", (100, 8), "float16", "normal"), seed=SEED)
        with pytest.raises(ValueError, match="does not say how it was made: tensors must be given"):
            files.write(tmp_path / other, force=True)
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "b.safetensors", force=True)
