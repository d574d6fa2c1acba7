"""Folders of files: as transformers and PyTorch's distributed checkpoint read them, and what verify says of them."""

import errno
import itertools
import json
import os
import random

import numpy as np
import pytest
from test_files_formats import SEED, filled, model, octets

from winit_fast.files import Recipe, TensorSpec, folders, plan, verify, write
from winit_fast.files import safetensors as safetensors_format
from winit_fast.files.coverage import Box, Fault, TangledError, find_faults
from winit_fast.files.folders import INDEX


def write_hf(folder, specs, **options):
    return write(folder, specs, seed=SEED, format="hf", **options)


def write_dcp(folder, specs, world_size):
    for rank in random.Random(1).sample(range(world_size), world_size):
        write(folder, specs, seed=SEED, format="dcp", rank=rank, world_size=world_size)


@pytest.fixture
def hf(tmp_path):
    write_hf(tmp_path / "hf", model(), max_file_size=1000)
    return tmp_path / "hf"


@pytest.fixture
def dcp(tmp_path):
    write_dcp(tmp_path / "dcp", model(), 3)
    return tmp_path / "dcp"


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def test_hugging_face_files_have_whole_tensors_and_an_index(hf):
    numbers = [path.name for path in shards(hf)]
    count = len(numbers)
    assert count > 3
    assert numbers == [f"model-{k:05}-of-{count:05}.safetensors" for k in range(1, count + 1)]
    index = json.loads((hf / INDEX).read_text(encoding="utf-8"))
    assert index["metadata"]["total_size"] == sum(spec.nbytes for spec in model())
    assert list(index["weight_map"]) == [spec.name for spec in model()]
    found = {}
    for path in shards(hf):
        contents = safetensors_format.read(path)
        assert contents.recipe == Recipe(tuple(model()), SEED)
        content = path.read_bytes()
        for one, spec in ((one, next(s for s in model() if s.name == one.name)) for one in contents.stored):
            assert index["weight_map"][one.name] == path.name
            found[one.name] = content[one.start : one.start + spec.nbytes]
    assert found == {spec.name: octets(filled(spec)) for spec in model()}


def test_one_file_is_a_model_without_an_index(tmp_path):
    write_hf(tmp_path / "hf", model())
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["model.safetensors"]
    assert verify(tmp_path / "hf").is_right


def test_files_are_dealt_to_ranks_and_the_first_writes_the_index(tmp_path, hf):
    folder = tmp_path / "dealt"
    for rank in (2, 0, 1):
        write_hf(folder, model(), max_file_size=1000, rank=rank, world_size=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in hf.iterdir()
    }


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 50])
def test_ranks_share_the_rows_of_every_tensor(tmp_path, world_size):
    write_dcp(tmp_path / "dcp", model(), world_size)
    wholes = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in model()}
    for path in shards(tmp_path / "dcp"):
        content = path.read_bytes()
        for one in safetensors_format.read(path).stored:
            whole = wholes[one.name]
            part = np.frombuffer(content, whole.dtype, int(np.prod(one.shape)), one.start).reshape(one.shape)
            whole[tuple(slice(a, a + n) for a, n in zip(one.offset, one.shape, strict=True))] = part
    for spec in model():
        assert octets(wholes[spec.name]) == octets(filled(spec)), spec.name
    assert verify(tmp_path / "dcp").is_right


@pytest.mark.frameworks
def test_transformers_loads_our_shards(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=301, n_positions=33, n_embd=16, n_layer=2, n_head=2)
    empty = transformers.GPT2Model(config)
    specs = [
        TensorSpec(name, tuple(tensor.shape), "float32", "normal(std=0.02)")
        for name, tensor in empty.state_dict().items()
    ]
    write_hf(tmp_path / "gpt2", specs, max_file_size=10_000)
    assert len(shards(tmp_path / "gpt2")) > 3
    config.save_pretrained(tmp_path / "gpt2")
    loaded, info = transformers.GPT2Model.from_pretrained(
        tmp_path / "gpt2", output_loading_info=True, dtype=torch.float32
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for spec in specs:
        assert octets(loaded.state_dict()[spec.name].numpy()) == octets(filled(spec)), spec.name
    assert verify(tmp_path / "gpt2").is_right


TORCH = ("float32", "float64", "bfloat16", "float16")


@pytest.mark.frameworks
@pytest.mark.parametrize("world_size", [1, 3])
def test_distributed_checkpoint_loads_our_shards(tmp_path, world_size):
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    specs = model((*TORCH, "float8_e4m3fn", "float8_e5m2", "complex64"))
    specs = [spec for spec in specs if 0 not in spec.shape]  # torch's own planner reads no empty tensor
    write_dcp(tmp_path / "dcp", specs, world_size)
    tensors = {spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype.name)) for spec in specs}
    checkpoint.load(tensors, storage_reader=checkpoint.HuggingFaceStorageReader(str(tmp_path / "dcp")), no_dist=True)
    for spec in specs:
        found = tensors[spec.name].reshape(-1).view(torch.uint8).numpy()
        assert octets(found) == octets(filled(spec)), spec.name


@pytest.mark.frameworks
def test_torch_consolidates_our_shards(tmp_path):
    pytest.importorskip("torch")
    consolidate = pytest.importorskip("torch.distributed.checkpoint._consolidate_hf_safetensors")
    specs = [spec for spec in model(TORCH) if spec.shape and 0 not in spec.shape]
    write_dcp(tmp_path / "dcp", specs, 3)
    (tmp_path / "whole").mkdir()
    consolidate.consolidate_safetensors_files(
        str(tmp_path / "dcp"), str(tmp_path / "whole"), fqn_to_index_mapping={spec.name: 1 for spec in specs}
    )
    (whole,) = shards(tmp_path / "whole")
    content = whole.read_bytes()
    stored = {one.name: one for one in safetensors_format.read(whole).stored}
    for spec in specs:
        start = stored[spec.name].start
        assert content[start : start + spec.nbytes] == octets(filled(spec)), spec.name
    recipe = Recipe(tuple(specs), SEED)  # which torch drops
    assert verify(whole, recipe=recipe).is_right


# What verify says of folders


def test_a_right_folder_is_right(hf, dcp):
    (hf / "config.json").write_text("{}")
    for folder in (hf, dcp):
        verdict = verify(folder)
        assert verdict.is_right
        assert verdict.checked_bytes == sum(spec.nbytes for spec in model())


def test_a_missing_shard_is_found(hf, dcp):
    path = shards(dcp)[1]
    path.unlink()
    missing = verify(dcp).missing
    assert "t.float32 [12:24, 0:5] is in no file" in missing
    assert len(missing) == sum(1 for spec in model() if spec.shape and 0 not in spec.shape)
    path = shards(hf)[1]
    path.unlink()
    verdict = verify(hf)
    assert f"{path.name}, which holds 1 tensors by {INDEX}" in verdict.missing
    assert "t.float64 is in no file" in verdict.missing
    assert not verdict.strays
    assert not verdict.overlapping


def test_a_copied_shard_hides_none_that_is_missing(dcp):
    """Of every tensor both are said, and what is missing first."""
    first, second, _ = shards(dcp)
    (dcp / "copy.safetensors").write_bytes(first.read_bytes())
    second.unlink()
    verdict = verify(dcp)
    rows = [spec for spec in model() if spec.shape and 0 not in spec.shape]
    assert "t.float32 [12:24, 0:5] is in no file" in verdict.missing
    assert len(verdict.missing) == len(rows)
    assert f"t.float32 [0:12, 0:5] is in copy.safetensors and {first.name}" in verdict.overlapping
    assert len(verdict.overlapping) == len([spec for spec in model() if 0 not in spec.shape])
    assert not verdict.strays
    assert not verdict


def test_faults_of_a_folder_are_listed_up_to_a_number_and_then_counted(tmp_path):
    specs = [TensorSpec(f"t{k}", (2,), "float32", "normal") for k in range(1007)]
    write_dcp(tmp_path / "dcp", specs, 2)
    shards(tmp_path / "dcp")[1].unlink()
    missing = verify(tmp_path / "dcp").missing
    assert len(missing) == 1001
    assert missing[0] == "t0 [1:2] is in no file"
    assert missing[-1] == "and 7 more"


def test_names_do_nothing_to_a_terminal(tmp_path):
    name = "a\nmissing: \x1b[31mb\u2028"
    write_dcp(tmp_path / "dcp", [TensorSpec(name, (4,), "float32", "normal")], 2)
    poked = shards(tmp_path / "dcp")[0]
    poked.write_bytes(poked.read_bytes()[:-1] + b"\x55")
    shards(tmp_path / "dcp")[1].unlink()
    verdict = verify(tmp_path / "dcp")
    shown = r"a\nmissing: \x1b[31mb\u2028"
    assert verdict.missing == (f"{shown} [2:4] is in no file",)
    assert str(verdict.differences[0]).startswith(f"{shown} (1,): found ")


def test_a_shard_that_cannot_be_read_is_missing(hf):
    path = shards(hf)[0]
    content = path.read_bytes()
    for damaged in (content[:-1], b"\0" * len(content), content[:3], b""):
        path.write_bytes(damaged)
        verdict = verify(hf)
        assert any(str(path) in line for line in verdict.missing), damaged[:10]
        assert "t.float32 is in no file" in verdict.missing
        assert not verdict.strays


@pytest.mark.skipif(os.name == "nt", reason="links and errors of POSIX")
@pytest.mark.parametrize("kind", ["link to nothing", "link to itself", "folder"])
def test_what_is_no_file_has_the_name_of_a_shard_or_index_and_is_missing(kind, hf):
    """As in a cache whose blobs were removed."""

    def replace(path):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(path if kind == "link to itself" else path.with_name("nothing"))

    first, *others = shards(hf)
    replace(first)
    verdict = verify(hf)
    assert any(line.startswith(f"{first} is no file: ") for line in verdict.missing)
    assert "t.float32 is in no file" in verdict.missing
    assert not verdict.strays
    replace(hf / INDEX)
    assert any(line.startswith(f"{hf / INDEX} is no file: ") for line in verify(hf).missing)
    for path in others:
        replace(path)
    assert len(verify(hf).missing) == 1 + len(shards(hf))


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_shard_that_one_may_not_read_is_not_said_to_be_missing(hf, monkeypatch):
    kept = os.open

    def refuse(path, *given):
        if path == str(shards(hf)[0]):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return kept(path, *given)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        verify(hf)


def test_a_shard_of_another_run_overlaps(tmp_path, dcp):
    write_dcp(tmp_path / "four", model(), 4)
    stray = shards(tmp_path / "four")[3]
    stray.rename(dcp / stray.name)
    verdict = verify(dcp)
    both = f"{shards(dcp)[2].name} and {stray.name}"
    assert f"t.float32 [27:37, 0:5] is in {both}" in verdict.overlapping
    assert not verdict.missing
    assert not verdict.is_right


def test_a_folder_with_files_of_another_format_or_number_of_workers_is_left_as_it_is(tmp_path):
    """Loaders would mix both: those of dcp read all safetensors files, those of hf go by the index."""
    specs = [TensorSpec(name, (100, 8), "float16", "normal") for name in "abc"]
    hf, one, dcp = (tmp_path / name for name in ("hf", "one", "dcp"))
    write(hf, specs, seed=SEED, max_file_size=2000)
    write(one, specs, seed=SEED)
    write_dcp(dcp, specs, 3)
    (dcp / "notes.txt").write_text("")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for folder, stranger, options in (
        (hf, "model-00001-of-00003.safetensors' and 3 more", {}),
        (hf, "model-00001-of-00003.safetensors' and 2 more", {"max_file_size": 4000}),
        (hf, "model-00001-of-00003.safetensors' and 3 more", {"format": "dcp"}),
        (one, "model.safetensors'", {"max_file_size": 2000}),
        (one, "model.safetensors'", {"format": "dcp"}),
        (dcp, "shard-00001-model-00001-of-00001.safetensors' and 2 more", {}),
        (dcp, "shard-00003-model-00001-of-00001.safetensors'", {"format": "dcp", "world_size": 2}),
    ):
        for more in ({}, {"force": True}, {"resume": True}):
            with pytest.raises(FileExistsError, match=stranger):
                write(folder, specs, seed=SEED, **options, **more)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
    for name in ("adapter.safetensors", "model.fp16.safetensors"):
        (hf / name).write_bytes(b"no loader of models takes it")
    assert write(hf, specs, seed=SEED, max_file_size=2000, resume=True).written == 0


@pytest.mark.parametrize(("seed", "world_size"), [(8, 2), (SEED, 3)])
def test_a_worker_goes_on_only_beside_what_the_others_would_write_now(tmp_path, seed, world_size):
    specs = [TensorSpec("a", (100, 8), "float16", "normal")]
    write(tmp_path, specs, seed=SEED, format="dcp", world_size=2)
    for more in ({}, {"resume": True}):
        with pytest.raises(FileExistsError, match=rf"shard-00001.* is not what worker 0 of {world_size} would write"):
            write(tmp_path, specs, seed=seed, format="dcp", rank=1, world_size=world_size, **more)
    assert len(shards(tmp_path)) == 1
    write(tmp_path, specs, seed=SEED, format="dcp", rank=1, world_size=2)
    write(tmp_path, specs, seed=8, format="dcp", rank=1, world_size=2, force=True)  # the other follows
    write(tmp_path, specs, seed=8, format="dcp", rank=0, world_size=2, force=True)
    assert verify(tmp_path)


def test_files_of_another_recipe_are_strays_and_unfinished_ones_are_left_over(dcp):
    (dcp / "x.safetensors.partial").write_bytes(b"")
    verdict = verify(dcp)
    assert verdict.leftovers == ("x.safetensors.partial was never finished, or is being written",)
    assert verdict.is_right
    write(dcp / "other.safetensors", TensorSpec("t", (3,), "float32", "normal"), seed=SEED)
    assert verify(dcp).strays == ("other.safetensors is of another recipe",)
    assert not verify(dcp)


def test_an_index_that_lies_is_found(hf):
    index = json.loads((hf / INDEX).read_text(encoding="utf-8"))
    first, second, third = (path.name for path in shards(hf)[:3])

    def say(**changes):
        (hf / INDEX).write_text(json.dumps({**index, **changes}), encoding="utf-8")
        return verify(hf)

    assert say().is_right
    assert say(metadata={}).is_right
    assert say(metadata={"total_size": 5}).strays == (
        f"{INDEX} says 5 bytes, and the tensors have {index['metadata']['total_size']}",
    )
    strays = say(weight_map={**index["weight_map"], "t.float32": second}).strays
    assert f"{INDEX} says that t.float32 is in {second}, and it is not" in strays
    assert f"{first} is not in {INDEX}" in strays
    assert (
        f"{INDEX} says that new is in {third}, and it is not"
        in say(weight_map={**index["weight_map"], "new": third}).strays
    )
    fewer = {name: file for name, file in index["weight_map"].items() if name != "scalar"}
    assert any(
        line.startswith("scalar is in") and line.endswith("says: nowhere") for line in say(weight_map=fewer).strays
    )
    assert (
        "new.safetensors, which holds 1 tensors by"
        in say(weight_map={**index["weight_map"], "new": "new.safetensors"}).missing[0]
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", '{"weight_map": []}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "../x"}}',
        '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "a", "a": "b"}}', '{"weight_map": {}}x',
        '{"weight_map": {"a": "\\ud800"}}', '{"a": ' + "[" * 10**5 + "]" * 10**5 + "}",
        '{"metadata": {"total_size": 1e9}, "weight_map": {}}', '{"metadata": {"total_size": ' + "9" * 5000 + "}}",
    ],
)  # fmt: skip
def test_a_hostile_index_is_refused(hf, text):
    (hf / INDEX).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"index\.json cannot be read: "):
        verify(hf)


def test_the_recipe_of_all_files_is_kept_once(tmp_path):
    specs = [TensorSpec(f"layer.{k}.weight", (40, 3), "float32", "normal(std=0.01)") for k in range(500)]
    write_dcp(tmp_path / "dcp", specs, 20)
    texts = [contents.recipe_text for _, contents in folders.read(tmp_path / "dcp").readable()]
    assert len(texts) == 20
    assert len({id(text) for text in texts}) == 1


# Coverage


def cut(shape, generator):
    """Cut a tensor into rectangles at random."""
    pieces = [((0,) * len(shape), shape)]
    for _ in range(generator.randrange(6)):
        offset, size = pieces.pop(generator.randrange(len(pieces)))
        axis = generator.randrange(len(shape))
        at = generator.randint(0, size[axis])
        first, second = list(size), list(size)
        first[axis], second[axis] = at, size[axis] - at
        moved = list(offset)
        moved[axis] += at
        pieces += [(offset, tuple(first)), (tuple(moved), tuple(second))]
    return pieces


def test_holes_and_overlaps_of_rectangles_are_found_as_by_counting():
    generator = random.Random(3)
    seen = set()
    for _ in range(2000):
        shape = tuple(generator.randint(1, 5) for _ in range(generator.randint(1, 3)))
        pieces = cut(shape, generator)
        for _ in range(generator.randrange(2)):
            pieces.pop(generator.randrange(len(pieces)))
        for _ in range(generator.randrange(2)):
            offset = tuple(generator.randrange(size) for size in shape)
            pieces.append((offset, tuple(generator.randint(0, n - a) for a, n in zip(offset, shape, strict=True))))
        generator.shuffle(pieces)
        count = np.zeros(shape, int)
        for offset, size in pieces:
            count[tuple(slice(a, a + n) for a, n in zip(offset, size, strict=True))] += 1
        seen_here = np.zeros(shape, int)
        for fault in find_faults(shape, [Box(offset, size, str(k)) for k, (offset, size) in enumerate(pieces)]):
            here = tuple(slice(a, a + n) for a, n in zip(fault.offset, fault.shape, strict=True))
            assert count[here].size > 0
            assert (count[here] == len(fault.holders)).all()
            assert len(fault.holders) != 1
            seen_here[here] += 1
            seen.add("overlap" if fault.holders else "hole")
        assert (seen_here == (count != 1)).all()  # each once, and nothing else
        if (count == 1).all():
            seen.add("right")
    assert seen == {"right", "overlap", "hole"}


@pytest.mark.parametrize(("shape", "boxes", "is_fault"), [
    ((), 0, True), ((), 1, False), ((), 2, True), ((0, 3), 0, True), ((0, 3), 1, False), ((3, 0), 2, False),
])  # fmt: skip
def test_a_tensor_of_one_value_or_none_is_in_a_file(shape, boxes, is_fault):
    faults = list(find_faults(shape, [Box((0,) * len(shape), shape, str(k)) for k in range(boxes)]))
    assert faults == [Fault((0,) * len(shape), shape, tuple("01"[:boxes]))] * is_fault


def test_what_many_files_hold_names_some_of_them(tmp_path):
    write_dcp(tmp_path / "dcp", [TensorSpec("t", (4,), "float32", "normal")], 1)
    (path,) = shards(tmp_path / "dcp")
    for k in range(9):
        (tmp_path / "dcp" / f"copy{k}.safetensors").write_bytes(path.read_bytes())
    (line,) = verify(tmp_path / "dcp").overlapping
    names = ", ".join(f"copy{k}.safetensors" for k in range(4))
    assert line == f"t is in {names} and 6 others"


def test_parts_across_each_other_end_in_bounded_time():
    generator = random.Random(1)
    boxes = []
    for k in range(1000):
        offset = tuple(generator.randrange(1000) for _ in range(3))
        boxes.append(Box(offset, tuple(generator.randint(1, 1000 - at) for at in offset), str(k)))
    with pytest.raises(TangledError, match="1000 parts lie across each other in too many ways"):
        list(find_faults((1000,) * 3, boxes))


def test_many_shards_are_checked_in_moderate_time():
    boxes = [Box((k * 10, 0), (10, 8), str(k)) for k in range(20_000)]
    random.Random(1).shuffle(boxes)
    assert list(find_faults((200_000, 8), boxes)) == []
    columns = [Box((a, b), (10, 4), "") for a, b in itertools.product(range(0, 1000, 10), range(0, 400, 4))]
    assert list(find_faults((1000, 400), columns)) == []
    assert list(find_faults((1000, 400), columns[:-1])) == [Fault((990, 396), (10, 4), ())]
    stairs = [Box((k,), (2,), str(k)) for k in range(20_000)]
    assert len(list(find_faults((20_001,), stairs))) == 19_999


def test_a_plan_of_a_folder_writes_nothing(tmp_path):
    plan(tmp_path / "x", model(), seed=SEED, format="dcp", world_size=4)
    assert list(tmp_path.iterdir()) == []
