"""Files of `winit_fast.files` are read by those who own the formats, bit for bit what `winit_fast.fill` writes."""

import json
import os
import struct

import numpy as np
import pytest

import winit_fast
from winit_fast.files import TensorSpec, plan, write
from winit_fast.files import npy as npy_format
from winit_fast.files import safetensors as safetensors_format
from winit_fast.files.layouts import PAGE
from winit_fast.files.specs import Recipe

SEED = 7
DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128")
SAFETENSORS = DTYPES[:-1]


def scheme_of(dtype):
    return "he_normal" if dtype.startswith("complex") else "normal(std=0.02)"


def filled(spec, seed=SEED):
    return spec.initializer.fill(winit_fast.empty(spec.shape, spec.dtype), seed=seed)


def octets(array):
    return np.ascontiguousarray(array).tobytes()


def model(dtypes=SAFETENSORS):
    """Tensors of every type: with odd sizes, without axes, without elements, and one that is drawn as a whole."""
    specs = [TensorSpec(f"t.{dtype}", (37, 5), dtype, scheme_of(dtype)) for dtype in dtypes]
    specs += [
        TensorSpec("scalar", (), "float32", "normal"),
        TensorSpec("empty", (0, 4), "float32", "normal"),
        TensorSpec('ünïcode/"\\\n', (3,), "float16", "normal", padding_idx=0, stream="other"),
        TensorSpec("orthogonal", (20, 30), "float32", "orthogonal", in_axis=1, out_axis=0),
    ]
    return specs


def test_safetensors_reads_our_files_to_the_bit(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    specs = model()
    write(tmp_path / "t.safetensors", specs, seed=SEED)
    with safetensors.safe_open(tmp_path / "t.safetensors", "np") as file:
        metadata = file.metadata()
        assert set(file.keys()) == {spec.name for spec in specs}
        for spec in specs:
            assert tuple(file.get_slice(spec.name).get_shape()) == spec.shape
    assert metadata["format"] == "pt"
    assert Recipe.from_json(metadata["winit_fast"]) == Recipe(tuple(specs), SEED)
    content = (tmp_path / "t.safetensors").read_bytes()
    for name, values in safetensors.deserialize(content):
        spec = next(spec for spec in specs if spec.name == name)
        assert bytes(values["data"]) == octets(filled(spec)), name


def test_safetensors_for_numpy_loads_our_files(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    specs = [spec for spec in model() if not spec.dtype.name.startswith("float8")]
    write(tmp_path / "t.safetensors", specs, seed=SEED)
    loaded = numpy.load_file(tmp_path / "t.safetensors")
    for spec in specs:
        assert loaded[spec.name].shape == spec.shape
        assert octets(loaded[spec.name]) == octets(filled(spec)), spec.name


@pytest.mark.frameworks
def test_safetensors_for_torch_loads_our_files(tmp_path):
    torch = pytest.importorskip("torch")
    load_file = pytest.importorskip("safetensors.torch").load_file
    specs = model()
    write(tmp_path / "t.safetensors", specs, seed=SEED)
    loaded = load_file(tmp_path / "t.safetensors")
    assert set(loaded) == {spec.name for spec in specs}
    for spec in specs:
        tensor = loaded[spec.name]
        assert str(tensor.dtype) == f"torch.{spec.dtype.name}"
        assert tuple(tensor.shape) == spec.shape
        assert octets(tensor.reshape(-1).view(torch.uint8).numpy()) == octets(filled(spec)), spec.name


def test_each_value_of_a_safetensors_file_is_at_a_multiple_of_its_size():
    layout = plan("t.safetensors", model(), seed=SEED).files[0].layout
    assert len(layout.header) % PAGE == 0
    for part, start in layout.segments:
        assert start % part.spec.dtype.itemsize == 0
    sizes = [part.spec.dtype.itemsize for part, _ in layout.segments]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "float8_e5m2"])
@pytest.mark.parametrize("shape", [(1000, 37), (), (0, 4), (5,), (2, 3, 4, 5)])
def test_numpy_loads_our_npy_files_to_the_bit(tmp_path, dtype, shape):
    scheme = "constant(0.5)" if dtype.startswith("complex") and len(shape) < 2 else scheme_of(dtype)
    spec = TensorSpec("t", shape, dtype, scheme)
    write(tmp_path / "t.npy", spec, seed=SEED)
    loaded = np.load(tmp_path / "t.npy", allow_pickle=False)
    assert loaded.shape == shape
    assert octets(loaded) == octets(filled(spec))
    if loaded.size:
        assert octets(np.load(tmp_path / "t.npy", mmap_mode="r")) == octets(filled(spec))
    if dtype in ("float32", "float64", "float16", "complex64", "complex128"):
        assert loaded.dtype == dtype
    else:  # bytes, which a view makes numbers
        assert loaded.dtype.kind == "V"
        assert octets(loaded.view(spec.dtype)) == octets(filled(spec))


def test_a_npy_file_that_numpy_would_not_open_is_refused_before_anything_is_written(tmp_path):
    for tensors, fault in (
        ([TensorSpec("t", (3,), "float8_e5m2", "normal")], "dtype float8_e5m2 cannot be in an .npy file"),
        ([TensorSpec(name, (3,), "float32", "normal") for name in "ab"], "an .npy file holds one tensor, got 2"),
    ):
        with pytest.raises(ValueError, match=fault):
            write(tmp_path / "t.npy", tensors, seed=SEED)
    assert list(tmp_path.iterdir()) == []


def test_npy_takes_just_the_types_that_numpy_opens():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    import io

    kinds = [np.dtype(kind) for name in dir(ml_dtypes) if isinstance(kind := getattr(ml_dtypes, name), type)
             and name not in ("finfo", "iinfo")]  # fmt: skip
    assert len(kinds) > 10
    for kind in kinds:
        file = io.BytesIO()
        np.save(file, np.zeros(3, kind))
        file.seek(0)
        try:
            np.load(file)
        except ValueError:
            with pytest.raises(ValueError, match=f"dtype {kind.name} cannot be in an .npy file"):
                npy_format.refuse_unreadable(kind)
        else:
            npy_format.refuse_unreadable(kind)


def test_numpy_reads_our_raw_files_to_the_bit(tmp_path):
    spec = TensorSpec("t", (1000, 37), "float32", "normal")
    write(tmp_path / "t.bin", spec, seed=SEED)
    assert octets(np.fromfile(tmp_path / "t.bin", "float32").reshape(1000, 37)) == octets(filled(spec))
    specs = [TensorSpec(name, (7, 3), dtype, scheme_of(dtype)) for name, dtype in zip("abcdefgh", DTYPES, strict=True)]
    write(tmp_path / "t.raw", specs, seed=SEED)
    ordered = sorted(specs, key=lambda spec: -spec.dtype.itemsize)
    assert (tmp_path / "t.raw").read_bytes() == b"".join(octets(filled(spec)) for spec in ordered)


@pytest.mark.parametrize("name", ["t.npy", "t.bin", "t.safetensors"])
def test_rows_of_a_tensor_are_those_of_the_whole(tmp_path, name):
    spec = TensorSpec("t", (100, 7), "float32", "he_normal", padding_idx=41)
    written = []
    for number, rows in enumerate([(40, 100), (0, 40)]):
        path = tmp_path / f"{number}{name}"
        write(path, spec, seed=SEED, rows=rows)
        if name == "t.npy":
            written.append(np.load(path))
        elif name == "t.bin":
            written.append(np.fromfile(path, "float32").reshape(-1, 7))
        else:
            content = path.read_bytes()
            size = struct.unpack("<Q", content[:8])[0]
            header = json.loads(content[8 : 8 + size])
            sharding = json.loads(header["__metadata__"]["DCP_SHARDING_INFO"])
            assert sharding == {"t": {"saved_offsets": [rows[0], 0]}}
            assert header["t"]["shape"] == [rows[1] - rows[0], 7]
            written.append(np.frombuffer(content[8 + size :], "float32").reshape(-1, 7))
    assert octets(np.concatenate(written[::-1])) == octets(filled(spec))


@pytest.mark.parametrize(
    ("tensors", "options", "fault"),
    [
        ([TensorSpec("t", (3, 2), "complex128", "he_normal")], {}, "dtype of 't' must be .* got complex128"),
        ([TensorSpec("__metadata__", (3,), "float32", "normal")], {}, "cannot have the name '__metadata__'"),
        ([TensorSpec("\ud800", (3,), "float32", "normal", stream=1)], {}, "name must be text that UTF-8 can encode"),
        ([], {}, "tensors must be one or more"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"rows": (1, 4)}, "rows 1:4 must be of 't' with shape"),
        ([TensorSpec("t", (), "float32", "normal")], {"rows": (0, 1)}, "rows 0:1 must be of 't' with shape"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"world_size": 2}, "world_size must be 1 for a single file"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"max_file_size": 5}, "max_file_size is for a folder"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"format": "hdf5"}, "format must be one of npy"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"format": "dcp", "rows": (0, 1)}, "rows is for a single file"),
        ([TensorSpec("t", (3,), "float32", "normal")], {"seed": None}, "seed"),
    ],
)  # fmt: skip
def test_what_a_format_does_not_hold_is_refused_before_anything_is_written(tmp_path, tensors, options, fault):
    with pytest.raises((TypeError, ValueError), match=fault):
        write(tmp_path / "t.safetensors", tensors, **{"seed": SEED, **options})
    assert list(tmp_path.iterdir()) == []


def test_a_header_that_the_library_would_not_read_is_refused(monkeypatch):
    monkeypatch.setattr(safetensors_format, "MOST_HEADER", 5000)
    plan("t.safetensors", model()[:1], seed=SEED)
    with pytest.raises(ValueError, match="the header must have at most 5,000 bytes, and would have"):
        plan("t.safetensors", [TensorSpec("n" * 6000, (3,), "float32", "normal")], seed=SEED)


def test_a_suffix_says_the_format_and_others_are_refused(tmp_path):
    spec = TensorSpec("t", (3,), "float32", "normal")
    kinds = {
        name: plan(tmp_path / name, spec, seed=SEED).format
        for name in ("a.NPY", "a.safetensors", "a.bin", "a.raw", "a")
    }
    assert kinds == {"a.NPY": "npy", "a.safetensors": "safetensors", "a.bin": "raw", "a.raw": "raw", "a": "hf"}
    with pytest.raises(ValueError, match=r"format must be given for a name that ends in '\.h5'"):
        plan("a.h5", spec, seed=SEED)
    assert plan("a.h5", spec, seed=SEED, format="raw").format == "raw"
    with pytest.raises(ValueError, match="format must be 'dcp'"):
        plan("a", spec, seed=SEED, world_size=2)


def test_a_plan_is_json_and_says_what_is_written(tmp_path):
    said = plan(tmp_path / "t", model(), seed=SEED, format="dcp", world_size=3)
    config = json.loads(json.dumps(said.get_config()))
    assert config["size"] == said.size
    for rank in range(3):
        write(tmp_path / "t", model(), seed=SEED, format="dcp", rank=rank, world_size=3)
    assert {str(path): os.path.getsize(path) for path in (tmp_path / "t").iterdir()} == {
        file["path"]: file["size"] for file in config["files"]
    }


def test_a_plan_is_printed_in_words_and_not_in_bytes():
    specs = [TensorSpec("b", (4, 6), "float32", "normal"), TensorSpec("a.b", (), "float16", "ones")]
    assert str(plan("t.safetensors", specs, seed=SEED)) == (
        "t.safetensors, format safetensors: 1 file, 4.2 kB\n"
        "  rank 0  t.safetensors  4.2 kB\n"
        "    b  float32  (4, 6)\n"
        "    a.b  float16  ()"
    )
    assert repr(plan("t", specs, seed=SEED, format="dcp")) == "<Plan of t, format dcp: 1 file, 4.2 kB>"
    rows = plan("t.npy", specs[0], seed=SEED, rows=(1, 3))
    assert str(rows).endswith("\n    b  float32  [1:3, 0:6] of (4, 6)")
    layout = "<Layout of format npy; header: 4096 bytes, segments: 1, in all 4144 bytes>"
    assert repr(rows.files[0].layout) == layout
    for shown in (repr(rows), repr(rows.files), str(rows)):
        assert "NUMPY" not in shown


def test_what_is_printed_of_a_plan_is_bounded_and_harmless():
    """Many files, many tensors, and names of any length with anything in them."""
    specs = [TensorSpec(f"\x1b[2J{number}" + "n" * 900, (1,) * 60, "float16", "ones") for number in range(30)]
    for planned in (
        plan("t", specs, format="hf", max_file_size="2"),
        plan("t", specs, format="dcp", world_size=25),
        plan("x" * 200 + ".raw", specs),
    ):
        assert len(str(planned)) < 40_000
        assert max(map(len, str(planned).split("\n"))) < 300
        assert len(repr(planned)) < 200
        assert "\x1b" not in str(planned) + repr(planned)
    assert str(plan("t", specs, format="hf", max_file_size="2")).endswith("\n  and 11 more files")
    assert "\n    and 25 more tensors" in str(plan("t.raw", specs))
