"""Headers and recipes that may be anybody's: refused with a ValueError, or read as their owners read them."""

import json
import random
import struct
import tracemalloc
import warnings

import numpy as np
import pytest

from winit_fast.files import Recipe, TensorSpec, npy, safetensors, write
from winit_fast.files.json_text import JsonText
from winit_fast.files.layouts import TruncatedFileError

SEED = 7
SPECS = (
    TensorSpec("a", (5, 3), "float32", "normal"),
    TensorSpec("b", (7,), "bfloat16", "uniform(-1, 1)"),
    TensorSpec("c", (), "float16", "normal"),
    TensorSpec("d", (0, 4), "float64", "normal"),
)
HOSTILE = (
    None, True, -1, 0, 1.5, 1e300, float("inf"), 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**19, 10**100, "", "F32",
    "BF16", "I64", "F4", "x" * 1000, "\ud800", "\0", "__metadata__", [], [0], [0, 0], [0, 60], [60, 0], [-1, 5],
    [2**62, 4], [2**63, 0], [2**32, 2**32], [1] * 65, [1] * 2000, [[]], [[[[]]]], {}, {"a": {}}, {"": ""},
    {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
)  # fmt: skip


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("headers") / "t.safetensors"
    write(path, SPECS, seed=SEED)
    return path.read_bytes()


def parsed(content):
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def packed(header, data, *, pad=True):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return struct.pack("<Q", len(text)) + text + data


def mutate(value, generator):
    """Some part of a JSON value is replaced, left out, repeated or renamed."""
    if isinstance(value, dict) and value and generator.random() < 0.8:
        key = generator.choice(list(value))
        kind = generator.randrange(6)
        if kind == 0:
            return {name: one for name, one in value.items() if name != key}
        if kind == 1:
            return {**value, str(generator.choice(HOSTILE)): value[key]}
        return {**value, key: mutate(value[key], generator)}
    if isinstance(value, list) and value and generator.random() < 0.7:
        at = generator.randrange(len(value))
        kind = generator.randrange(4)
        if kind == 0:
            return value[:at] + value[at + 1 :]
        if kind == 1:
            return [*value[:at], value[at], *value[at:]]
        return [*value[:at], mutate(value[at], generator), *value[at + 1 :]]
    if isinstance(value, int) and generator.random() < 0.5:
        return value + generator.choice((-4, -1, 1, 4, 2**32, 2**63))
    return generator.choice(HOSTILE)


def mutate_bytes(content, generator, end):
    """Some bytes at the beginning are changed, left out or repeated; or the end is."""
    changed = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(min(end, len(changed)))
        kind = generator.randrange(5)
        if kind < 2:
            changed[at] = generator.choice(b'\0\x01 {}[]",:0189-eE\\ud8n\xff\x80')
        elif kind == 2:
            del changed[at : at + generator.randint(1, 9)]
        elif kind == 3:
            changed[at:at] = changed[at : at + generator.randint(1, 9)]
        else:
            changed[at] ^= 1 << generator.randrange(8)
    if generator.random() < 0.1:
        del changed[generator.randrange(len(changed)) :]
    return bytes(changed)


def mutated_safetensors(content, count, seed):
    generator = random.Random(seed)
    header, data = parsed(content)
    text_end = 8 + len(json.dumps(header))
    for _ in range(count):
        kind = generator.randrange(4)
        if kind == 0:
            yield mutate_bytes(content, generator, text_end)
        elif kind == 1:
            yield mutate_bytes(packed(header, data), generator, text_end)
        else:
            changed = header
            for _ in range(generator.randint(1, 3)):
                changed = mutate(changed, generator)
            yield packed(changed, data, pad=generator.random() < 0.5)


def check_safetensors(path, content):
    """What we read is what the library reads; what it refuses is refused."""
    library = pytest.importorskip("safetensors")
    path.write_bytes(content)
    try:
        contents = safetensors.read(path)
    except ValueError:
        return False
    read = {
        name: (values["dtype"], tuple(values["shape"]), len(values["data"]))
        for name, values in library.deserialize(content)
    }
    ours = {one.name: one for one in contents.stored}
    assert ours.keys() == read.keys()
    for name, (dtype, shape, size) in read.items():
        one = ours[name]
        assert (one.dtype, one.shape) == (safetensors._DTYPES[dtype], shape)
        assert one.start + size <= contents.size
    return True


def sweep_safetensors(tmp_path, content, count, seed):
    taken = sum(check_safetensors(tmp_path / "t", one) for one in mutated_safetensors(content, count, seed))
    assert 0 < taken < count // 2  # the mutations are neither all harmless nor all fatal


def test_mutated_safetensors_headers_are_refused_or_read_as_the_library_does(tmp_path, content):
    sweep_safetensors(tmp_path, content, 1000, 1)


@pytest.mark.sweep
def test_ten_thousand_mutated_safetensors_headers_are_refused_or_read_as_the_library_does(tmp_path, content):
    sweep_safetensors(tmp_path, content, 10_000, 2)


def entry(shape=(1,), begin=0, end=4, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


REFUSED = {
    "no header": b"",
    "zeros": b"\0" * 8192,
    "too short": b"\x02\0\0",
    "no brace": packed(b" {}", b""),
    "a length beyond the file": struct.pack("<Q", 50) + b"{}",
    "a length beyond all": struct.pack("<Q", 2**64 - 1) + b"{}" * 100,
    "a length beyond what the library reads": struct.pack("<Q", 2**62) + b"{}" * 100,
    "no UTF-8": packed(b'{"\xff": {}}', b""),
    "nested": packed(b'{"a": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", b""),
    "nested metadata": packed(b'{"__metadata__": ' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}", b""),
    "a name twice": packed(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},' * 2 + b"}", b"1234"),
    "a tensor twice": packed(b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[],'
                             b'"data_offsets":[0,4]}}', b"1234"),
    "a key twice": packed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', b"1234"),
    "a huge number": packed(b'{"a":{"dtype":"F32","shape":[' + b"9" * 10**6 + b'],"data_offsets":[0,4]}}', b"1234"),
    "a fraction": packed({"a": entry((1.0,))}, b"1234"),
    "an exponent": packed(b'{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', b"1234"),
    "NaN": packed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"1234"),
    "a bool": packed({"a": entry((True,))}, b"1234"),
    "negative": packed({"a": entry((-1,))}, b"1234"),
    "negative twice": packed({"a": entry((-1, -1))}, b"1234"),
    "a product that overflows to the size": packed({"a": entry((2**62, 2**62, 4, 4))}, b"1234"),
    "a product that overflows to zero": packed({"a": entry((2**32, 2**32), 0, 0)}, b""),
    "offsets that are reversed": packed({"a": entry((), 4, 0)}, b"1234"),
    "three offsets": packed({"a": {**entry(()), "data_offsets": [0, 4, 4]}}, b"1234"),
    "an overlap": packed({"a": entry(()), "b": entry((), 2, 6)}, b"123456"),
    "the same place": packed({"a": entry(()), "b": entry(())}, b"1234"),
    "a hole": packed({"a": entry(()), "b": entry((), 8, 12)}, b"1" * 12),
    "a hole at the beginning": packed({"a": entry((), 4, 8)}, b"1" * 8),
    "more bytes": packed({"a": entry(())}, b"12345"),
    "fewer bytes": packed({"a": entry(())}, b"123"),
    "no dtype": packed({"a": {"shape": [], "data_offsets": [0, 4]}}, b"1234"),
    "no shape": packed({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, b"1234"),
    "no offsets": packed({"a": {"dtype": "F32", "shape": []}}, b"1234"),
    "an unknown dtype": packed({"a": entry(dtype="F33")}, b"1234"),
    "a surrogate": packed(b'{"\\ud800":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', b"1234"),
    "metadata that is no text": packed({"__metadata__": {"a": 1}}, b""),
    "metadata that is a list": packed({"__metadata__": []}, b""),
    "text after the end": packed(b"{} {}", b""),
    "a NUL after the end": packed(b"{}\0", b""),
    "sharding of a tensor that is not there": packed(
        {"__metadata__": {"DCP_SHARDING_INFO": '{"a": {"saved_offsets": [0]}}'}}, b""),
    "sharding without the tensor": packed({"__metadata__": {"DCP_SHARDING_INFO": "{}"}, "a": entry()}, b"1234"),
    "sharding of other axes": packed(
        {"__metadata__": {"DCP_SHARDING_INFO": '{"a": {"saved_offsets": [0, 0]}}'}, "a": entry()}, b"1234"),
    "sharding that is negative": packed(
        {"__metadata__": {"DCP_SHARDING_INFO": '{"a": {"saved_offsets": [-1]}}'}, "a": entry()}, b"1234"),
    "sharding that is no JSON": packed({"__metadata__": {"DCP_SHARDING_INFO": "{"}, "a": entry()}, b"1234"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_safetensors_file_is_refused_by_name(tmp_path, what):
    (tmp_path / "t").write_bytes(REFUSED[what])
    with pytest.raises(ValueError, match=str(tmp_path / "t")):
        safetensors.read(tmp_path / "t")


@pytest.mark.parametrize("size", [0, 7, 8, 100, 4095, 4096, -1])
def test_a_file_that_was_cut_is_said_to_be(tmp_path, content, size):
    (tmp_path / "t").write_bytes(content[:size])
    with pytest.raises(ValueError, match=r"ends at byte|has no header") as caught:
        safetensors.read(tmp_path / "t")
    assert isinstance(caught.value, TruncatedFileError) == (size not in (0, 7))


def peak_of(call):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "what", ["a length beyond all", "a length beyond the file", "a product that overflows to the size", "a hole"]
)
def test_what_a_header_claims_takes_no_memory(tmp_path, what):
    (tmp_path / "t").write_bytes(REFUSED[what])
    assert peak_of(lambda: safetensors.read(tmp_path / "t")) < 300_000


ITEMS = ("[],", "{},", '"",', '"ab",', "1,", "1.5,", "[[", '{"":', '[{"a":[', "\\n", " ")


@pytest.mark.parametrize("item", ITEMS)
def test_no_header_takes_much_more_memory_than_the_file(tmp_path, item):
    """A list of lists is 20 times as large in Python as its text: nothing is made of what nobody asked for."""
    many = item * (1_000_000 // len(item))
    for before, after in (("{", "}"), ('{"a":', "}"), ('{"a":{"shape":[', "]}}"), ('{"__metadata__":{"a":"', '"}')):
        for text in (before + many, before + many + after):
            (tmp_path / "t").write_bytes(packed(text.encode(), b""))
            size = (tmp_path / "t").stat().st_size
            tracemalloc.start()
            try:
                safetensors.read(tmp_path / "t")
            except ValueError:
                pass
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < 4 * size + 300_000, (before, text[-20:], peak / size)
            with pytest.raises(ValueError, match="not a recipe"):
                Recipe.from_json(text)
    assert peak_of(lambda: Recipe.from_json('{"tensors":[' + many)) < 4_300_000


def test_json_is_passed_over_as_pythons_own_reader_reads_it():
    generator = random.Random(5)
    header = {"a": [1, -2.5e3, 'x"\\u00e9', None, True, {"b": [], "c": {}}], "d": {"e": [[], [[0]]]}, "f": ""}
    taken = 0
    for _ in range(3000):
        text = json.dumps(header)
        if generator.random() < 0.8:
            text = mutate_bytes(text.encode(), generator, len(text)).decode("latin-1")
        ours, theirs = skips(text), loads(text)
        assert ours == theirs or (theirs and "\\ud8" in text.lower())  # half of a surrogate pair, which Python takes
        taken += ours
    assert taken > 500


def skips(text):
    reader = JsonText(text)
    try:
        reader.skip()
        reader.end()
    except ValueError:
        return False
    return True


def loads(text):
    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


def refuse(constant):
    raise ValueError(constant)


# .npy


@pytest.fixture(scope="module")
def npy_content(tmp_path_factory):
    path = tmp_path_factory.mktemp("headers") / "t.npy"
    write(path, SPECS[0], seed=SEED)
    return path.read_bytes()


def check_npy(path, content):
    path.write_bytes(content)
    try:
        contents = npy.read(path)
    except ValueError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.load(path, allow_pickle=False)
    (one,) = contents.stored
    assert (array.shape, array.dtype.name) == (one.shape, one.dtype)
    assert array.flags.c_contiguous
    assert array.tobytes() == content[one.start :]
    return True


DESCRS = ("<f4", "<f4", "|V4", ">f4", "<f8", "|u1", "O", "<U1", "f1", "<c8", "", "<f99999", "<M8[s]")
SHAPES = (
    "(5, 3)", "(15,)", "(15)", "()", "(0, 9)", "(5,3,)", "(-5, -3)", "[5, 3]", "(5.0, 3)", "('a',)", f"({2**62}, 16)",
    f"({10**30},)", "(" * 5000, "-" * 5000 + "1", "None", "(1," + "1," * 70 + "15)",
)  # fmt: skip


def sweep_npy(tmp_path, npy_content, count, seed):
    generator = random.Random(seed)
    text = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"
    taken = 0
    for _ in range(count):
        if generator.random() < 0.5:
            content = mutate_bytes(npy_content, generator, 80)
        else:
            descr, shape = generator.choice(DESCRS), generator.choice(SHAPES)
            order = generator.choice(("False", "False", "True", "0", "None"))
            header = (text % (descr, order, shape)).encode()
            header = header.ljust(generator.choice((0, 118, 4000))) + b"\n"
            version = generator.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x04\x00"))
            length = struct.pack("<H" if version[0] == 1 else "<I", len(header) + generator.choice((0, 0, 0, 1, -1)))
            content = b"\x93NUMPY" + version + length + header + npy_content[4096:]
        taken += check_npy(tmp_path / "t", content)
    assert 0 < taken < count // 2


def test_mutated_npy_headers_are_refused_or_read_as_numpy_does(tmp_path, npy_content):
    sweep_npy(tmp_path, npy_content, 1500, 1)


@pytest.mark.sweep
def test_ten_thousand_mutated_npy_headers_are_refused_or_read_as_numpy_does(tmp_path, npy_content):
    sweep_npy(tmp_path, npy_content, 10_000, 2)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.zeros((3, 4), order="F"), "must be in C order"),
        (np.zeros(3, ">f4"), "this machine's order of bytes"),
        (np.zeros(3, [("a", "f4")]), "a header that numpy.save does not write"),
        (np.array([None]), "a header that numpy.save does not write"),
    ],
)
def test_npy_files_that_cannot_be_compared_are_refused(tmp_path, array, fault):
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ValueError, match=fault):
        npy.read(tmp_path / "t.npy")


# Recipes


RECIPE = Recipe(
    (
        TensorSpec("a", (5, 3), "float32", "normal(std=0.01)", padding_idx=0),
        TensorSpec("b", (4, 7, 3), "bfloat16", "he_normal", in_axis=(1,), out_axis=-1, batch_axis=0, stream=2**64 - 1),
        TensorSpec("c", (6, 3), "float16", "truncated_normal(std=0.02)", matrices=3, stream="x"),
        TensorSpec("d", (3, 4), "float32", "orthogonal(gain=2)"),
    ),
    2**64 - 1,
)  # fmt: skip
SCHEMES = (
    "normal(std=1e308)", "constant(1e39)", "orthogonal", "sparse(0.5)", "dirac", "truncated_normal(low=30, high=31)",
    "(" * 5000, "[" * 900, "normal" * 1000, "constant(value=[1, 2, 3])", "normal(std=" + "9" * 5000 + ")",
    "uniform(0, 0)",
    "normal(__import__('os'))", "normal(std=1e-400)", "identity", "normal(std=nan)", "normal(**{})", "\0",
    "normal(\ud800)",
)  # fmt: skip


def read_or_refuse(text):
    try:
        recipe = Recipe.from_json(text)
    except ValueError:
        return False
    assert Recipe.from_json(recipe.to_json()) == recipe
    return True


def sweep_recipes(count, seed):
    generator = random.Random(seed)
    said = json.loads(RECIPE.to_json())
    taken = 0
    for _ in range(count):
        if generator.random() < 0.3:
            text = mutate_bytes(RECIPE.to_json().encode(), generator, 10**6).decode("latin-1")
        else:
            changed = said
            for _ in range(generator.randint(1, 3)):
                changed = mutate(changed, generator)
            if generator.random() < 0.2 and isinstance(changed, dict) and isinstance(changed.get("tensors"), list):
                specs = [one for one in changed["tensors"] if isinstance(one, dict)]
                if specs:
                    changed = {**changed, "tensors": [{**generator.choice(specs), "scheme": generator.choice(SCHEMES)}]}
            text = json.dumps(changed)
        taken += read_or_refuse(text)
    assert 0 < taken < count * 2 // 3


def test_mutated_recipes_are_refused_or_read():
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    sweep_recipes(1000, 1)


@pytest.mark.sweep
def test_ten_thousand_mutated_recipes_are_refused_or_read():
    sweep_recipes(10_000, 2)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not a recipe of winit_fast: at character 0: { must be here"),
        ("{}", "stream_version is missing"),
        (None, "a recipe must be a str, got None"),
        (RECIPE.to_json().replace('"stream_version": 1', '"stream_version": 2'),
         "the recipe is of version 2 of the stream; this winit_fast has version 1"),
        (RECIPE.to_json().replace('"seed"', '"sead"'), "'sead' is unknown"),
        (RECIPE.to_json().replace('"name": "b"', '"name": "a"'), "tensors must have different names, got 'a' twice"),
        (RECIPE.to_json().replace("float32", "float33"), "dtype must be one of NumPy's"),
        (RECIPE.to_json().replace("[5, 3]", "[5, 4611686018427387904]"), "must be of fewer than 2\\^63 bytes"),
        (RECIPE.to_json().replace("he_normal", "he_norml"), "did you mean 'he_normal'"),
        (RECIPE.to_json().replace('"seed": 18', '"seed": 99'), "seed must be"),
        (RECIPE.to_json().replace('"seed": 18446744073709551615', '"seed": null'), "seed must be"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used_is_refused_by_its_fault(text, fault):
    with pytest.raises(ValueError, match=fault):
        Recipe.from_json(text)
