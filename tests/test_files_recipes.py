"""Recipes in files that people write, and tensors like those of a model."""

import json
import re
import sys

import numpy as np
import pytest

import winit_fast
from winit_fast import files
from winit_fast.__main__ import main
from winit_fast.files import safetensors
from winit_fast.files.recipes import Rule, make_specs, read_model, read_written_recipe
from winit_fast.files.specs import Recipe, TensorSpec

TOML = """
seed = 7
dtype = "float16"

[tensors.user_id]
shape = [40_000, 128]
scheme = "normal(std=0.01)"
padding_idx = 0

[tensors]
item_id = [10_000, 64]
"head.weight" = {shape = [64, 128], dtype = "float32"}
"head.bias" = {shape = [128]}

[rules]
"*.weight" = {scheme = "he_normal", in_axis = 1, out_axis = 0}
"*.bias" = "zeros"
"*" = "embedding_normal"
"""
AS_JSON = {
    "seed": 7,
    "dtype": "float16",
    "tensors": [
        {"name": "user_id", "shape": [40000, 128], "scheme": "normal(std=0.01)", "padding_idx": 0},
        {"name": "item_id", "shape": [10000, 64]},
        {"name": "head.weight", "shape": [64, 128], "dtype": "float32"},
        {"name": "head.bias", "shape": [128]},
    ],
    "rules": [
        {"name": "*.weight", "scheme": "he_normal", "in_axis": 1, "out_axis": 0},
        {"name": "*.bias", "scheme": "zeros"},
        {"name": "*", "scheme": "embedding_normal"},
    ],
}
MEANT = (
    TensorSpec("user_id", (40000, 128), "float16", "normal(std=0.01)", padding_idx=0),
    TensorSpec("item_id", (10000, 64), "float16", "embedding_normal"),
    TensorSpec("head.weight", (64, 128), "float32", "he_normal", in_axis=1, out_axis=0),
    TensorSpec("head.bias", (128,), "float16", "zeros"),
)
TOML_READERS = [name for name in ("tomllib", "tomli") if sys.version_info >= (3, 11) or name == "tomli"]


def write(folder, text, name="tables.json"):
    path = folder / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def specs_of(path, **arguments):
    recipe = read_written_recipe(path)
    return make_specs(recipe.tensors, recipe.rules, **{"dtype": recipe.dtype, **arguments})


@pytest.fixture
def no_toml(monkeypatch):
    """Python 3.10 without tomli."""
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)


def test_json_says_what_is_meant(tmp_path):
    path = write(tmp_path, AS_JSON)
    assert specs_of(path) == MEANT
    assert read_written_recipe(path).seed == 7


def test_toml_says_the_same(tmp_path):
    pytest.importorskip(TOML_READERS[0])
    path = write(tmp_path, TOML, "tables.toml")
    assert sorted(specs_of(path), key=lambda spec: spec.name) == sorted(MEANT, key=lambda spec: spec.name)
    assert read_written_recipe(path).seed == 7


def test_python_3_10_reads_toml_by_tomli(tmp_path, monkeypatch):
    class Tomli:
        @staticmethod
        def loads(text):
            assert text == "x"
            return AS_JSON

    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", Tomli)
    assert specs_of(write(tmp_path, "x", "tables.toml")) == MEANT


def test_without_both_toml_is_refused_with_what_helps(tmp_path, no_toml):
    with pytest.raises(
        ImportError, match=r"on Python 3.10 needs tomli, of the extra \[cli\]: pip install tomli; one in JSON does not"
    ):
        read_written_recipe(write(tmp_path, TOML, "tables.TOML"))


def test_json_needs_no_toml(tmp_path, no_toml):
    assert specs_of(write(tmp_path, AS_JSON)) == MEANT


def test_a_recipe_as_the_files_have_it_is_one(tmp_path):
    recipe = Recipe(MEANT, 7)
    path = write(tmp_path, recipe.to_json())
    assert Recipe(specs_of(path), read_written_recipe(path).seed) == recipe


def test_an_object_by_name_may_say_the_shape_alone(tmp_path):
    path = write(tmp_path, {"tensors": {"a": [3, 4], "b": []}, "rules": {"*": "zeros"}, "dtype": "float32"})
    assert [spec.shape for spec in specs_of(path)] == [(3, 4), ()]


def refused(folder, recipe):
    path = write(folder, recipe)
    with pytest.raises((TypeError, ValueError)) as caught:
        specs_of(path)
    return str(caught.value)


ONE = {"name": "a", "shape": [3, 4], "scheme": "normal", "dtype": "float32"}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"seed": 1, "seed": 2}', "'seed' stands there twice"),
        ("[]", "a recipe must be an object with seed, dtype"),
        ({"tensor": []}, "a recipe has no key 'tensor'; did you mean 'tensors'?"),
        ({"seed": 1.5}, "seed must be an int, got 1.5"),
        ({"seed": True}, "seed must be an int, got True"),
        ({"stream_version": 2}, "stream_version must be 1, got 2"),
        ({"dtype": 7}, "dtype must be a text, got 7"),
        ({"layout": "keras"}, "layout must be one of torch, numpy, got 'keras'"),
        ({"layout": ["torch"]}, "layout must be one of torch, numpy, got ['torch']"),
        ({"tensors": 7}, "tensors must be an object by name or a list of objects, got 7"),
        ({"tensors": [7]}, "tensors[0] must be an object with name, shape"),
        ({"tensors": [{**ONE, "name": 7}]}, "tensors[0] must have a name, a text, got 7"),
        ({"tensors": [{**ONE, "sheme": "zeros"}]}, "tensors[0] has no key 'sheme'; did you mean 'scheme'?"),
        ({"tensors": [ONE, ONE]}, "tensors must have different names, got 'a' twice"),
        ({"tensors": [{"name": "a", "scheme": "normal"}]}, "'a' of tensors must have a shape"),
        ({"tensors": [{**ONE, "shape": "3x4"}]}, "tensor 'a' cannot be made: shape must be a sequence of int"),
        ({"tensors": [{**ONE, "shape": [3, 4.5]}]}, "tensor 'a' cannot be made: shape[1] must be an int, got 4.5"),
        ({"tensors": [{**ONE, "shape": [1 << 62, 4]}]}, "fewer than 2^63 bytes"),
        ({"tensors": [{**ONE, "scheme": "norml"}]}, "did you mean 'normal'?"),
        ({"tensors": [{**ONE, "scheme": 7}]}, "tensor 'a' cannot be made: scheme"),
        ({"tensors": [{**ONE, "dtype": "int8"}]}, "tensor 'a' cannot be made: dtype of 'a' must be one of"),
        ({"tensors": [{**ONE, "padding_idx": 9}]}, "tensor 'a' cannot be made: padding_idx"),
        ({"tensors": [{**ONE, "in_axis": "0"}]}, "tensor 'a' cannot be made: in_axis must be an integer"),
        ({"tensors": {"a": [3]}, "rules": {"b": "zeros"}}, "rules must give every tensor a scheme, and none takes 'a'"),
        ({"tensors": {f"t{k}": [3] for k in range(9)}}, "none takes 't0', 't1', 't2', 't3', 't4' and 4 more"),
        (
            {"tensors": {"a": [3]}, "rules": {"*": "zeros"}},
            "'a' must have a dtype, and neither it nor a rule gives one",
        ),
        ({"rules": {"*": 7}, "tensors": {"a": [3]}, "dtype": "float32"}, "tensor 'a', by rule '*', cannot be made"),
        ({"rules": [{"name": "*"}]}, "'*' of rules must have a scheme"),
        ({"rules": [{"name": "*", "scheme": "zeros", "shape": [3]}]}, "rules[0] has no key 'shape'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(recipe, message, tmp_path):
    assert message in refused(tmp_path, recipe)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "tables.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"tables.json cannot be read"):
        read_written_recipe(tmp_path / "tables.json")


def test_a_text_without_end_is_refused_in_bounded_memory(tmp_path):
    with open(tmp_path / "tables.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="must be a text of at most 100,000,000 bytes"):
        read_written_recipe(tmp_path / "tables.json")


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tables.json"):
        read_written_recipe(tmp_path / "tables.json")


# Rules


def test_the_first_rule_that_matches_takes_a_tensor():
    rules = [Rule("a.*", {"scheme": "zeros"}), Rule("*", {"scheme": "ones"})]
    specs = make_specs([{"name": "a.b", "shape": [2]}, {"name": "b", "shape": [2]}], rules, dtype="float32")
    assert [str(spec.initializer.scheme) for spec in specs] == [
        str(winit_fast.scheme("zeros")),
        str(winit_fast.scheme("ones")),
    ]


@pytest.mark.parametrize(
    ("glob", "name", "is_taken"),
    [("*.weight", "weight", True), ("*.weight", "a.b.weight", True), ("*weight", "xweight", True),
     ("*.weight", "xweight", False), ("a.?", "a.b", True), ("A", "a", False), ("[ab]", "b", True)],
)  # fmt: skip
def test_globs_are_those_of_init_module(glob, name, is_taken):
    assert Rule(glob, {}).takes(name) == is_taken


@pytest.mark.frameworks
def test_globs_are_matched_as_by_init_module():
    pytest.importorskip("torch")
    from winit_fast.adapters.torch.rules import matches

    for glob in ("*.weight", "*", "a.*", "*weight", "?.b", "[ab].b", ".a", "*.", ""):
        for name in ("weight", "a.weight", "a.b", "c.b", "", ".a", "a.", "b.b.weight"):
            assert Rule(glob, {}).takes(name) == matches(name, glob), (glob, name)


def test_what_a_tensor_says_itself_counts_more_than_a_rule():
    rule = Rule("*", {"scheme": "he_normal", "in_axis": 1, "out_axis": 0, "padding_idx": 1, "dtype": "float64"})
    (spec,) = make_specs([{"name": "a", "shape": [3, 4], "padding_idx": 2}], [rule], dtype="float32")
    assert spec == TensorSpec("a", (3, 4), "float64", "he_normal", in_axis=1, out_axis=0, padding_idx=2)
    (spec,) = make_specs([{"name": "a", "shape": [3, 4], "scheme": "lecun_normal", "dtype": "float16"}], [rule])
    assert spec == TensorSpec("a", (3, 4), "float16", "lecun_normal", padding_idx=1)


@pytest.mark.parametrize("nothing", [None, "none"])
def test_a_tensor_can_be_left_out(nothing):
    tensors = [{"name": "a", "shape": [2]}, {"name": "positions", "shape": [512], "dtype": "int64"}]
    rules = [Rule("positions", {"scheme": nothing}), Rule("*", {"scheme": "zeros"})]
    assert [spec.name for spec in make_specs(tensors, rules, dtype="float32")] == ["a"]


@pytest.mark.parametrize(
    ("said", "inputs", "outputs"),
    [
        ({}, (1,), (0,)),
        ({"batch_axis": 0}, (2,), (1,)),
        ({"batch_axis": -1}, (1,), (0,)),
        ({"in_axis": 0}, (0,), (1,)),
        ({"in_axis": 2}, (2,), (0,)),
        ({"out_axis": 1}, (0,), (1,)),
        ({"in_axis": [1, 2], "out_axis": 0}, (1, 2), (0,)),
    ],
)
def test_the_layout_of_torch_has_outputs_first(said, inputs, outputs):
    (spec,) = make_specs(
        [{"name": "a", "shape": [3, 4, 5], "scheme": "he_normal", **said}], dtype="float32", layout="torch"
    )
    assert (spec.initializer.in_axis, spec.initializer.out_axis) == (inputs, outputs)


def test_a_vector_has_no_layout():
    (spec,) = make_specs([{"name": "a", "shape": [3], "scheme": "zeros"}], dtype="float32", layout="torch")
    assert spec == TensorSpec("a", (3,), "float32", "zeros")


def test_a_layout_is_one_of_two():
    with pytest.raises(ValueError, match="layout must be one of torch, numpy, got 'jax'"):
        make_specs([], layout="jax")


@pytest.mark.frameworks
def test_a_linear_layer_is_initialized_as_by_init_module():
    torch = pytest.importorskip("torch")
    from winit_fast import adapters

    model = torch.nn.Sequential(torch.nn.Linear(12, 5), torch.nn.Conv1d(5, 3, 2))
    rules = {"*.weight": "he_normal", "*.bias": "zeros"}
    adapters.torch.init_module_(model, rules, seed=7)
    tensors = [{"name": name, "shape": list(value.shape)} for name, value in model.state_dict().items()]
    specs = make_specs(
        tensors, [Rule(name, {"scheme": scheme}) for name, scheme in rules.items()], dtype="float32", layout="torch"
    )
    for spec in specs:
        values = spec.initializer.fill(np.empty(spec.shape, spec.dtype), seed=7)
        assert values.tobytes() == model.state_dict()[spec.name].numpy().tobytes(), spec.name


# Models


def write_safetensors(path, tensors, **metadata):
    """A file with these (name, dtype, shape), all zeros."""
    header, at = {}, 0
    for name, dtype, shape in tensors:
        size = int(np.prod(shape)) * {"BF16": 2, "F32": 4, "I64": 8}[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({**header, **({"__metadata__": metadata} if metadata else {})}).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


SHARDS = {
    "model-00001-of-00002.safetensors": [("embed.weight", "BF16", [100, 8]), ("norm.weight", "F32", [8])],
    "model-00002-of-00002.safetensors": [("head.weight", "BF16", [100, 8]), ("positions", "I64", [16])],
}
TENSORS = [("embed.weight", (100, 8)), ("norm.weight", (8,)), ("head.weight", (100, 8)), ("positions", (16,))]


@pytest.fixture
def model(tmp_path):
    """A folder with a sharded model."""
    for name, tensors in SHARDS.items():
        write_safetensors(tmp_path / name, tensors, format="pt")
    weight_map = {tensor[0]: name for name, tensors in SHARDS.items() for tensor in tensors}
    write(tmp_path, {"metadata": {"total_size": 0}, "weight_map": weight_map}, "model.safetensors.index.json")
    return tmp_path


def found(path):
    return [(tensor["name"], tuple(tensor["shape"])) for tensor in read_model(path)]


def test_a_model_is_a_file_an_index_or_a_folder(model):
    assert found(model) == found(model / "model.safetensors.index.json") == TENSORS
    assert found(model / "model-00002-of-00002.safetensors") == TENSORS[2:]


def test_a_folder_may_have_one_file(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", SHARDS["model-00001-of-00002.safetensors"])
    assert found(tmp_path) == TENSORS[:2]


def test_types_are_those_of_the_model_unless_said_otherwise(model):
    pytest.importorskip("ml_dtypes")
    rules = [
        Rule("positions", {"scheme": None}),
        Rule("head.*", {"scheme": "zeros", "dtype": "float64"}),
        Rule("*", {"scheme": "ones"}),
    ]
    kinds = [spec.dtype.name for spec in make_specs(read_model(model), rules, layout="torch")]
    assert kinds == ["bfloat16", "float32", "float64"]
    kinds = [spec.dtype.name for spec in make_specs(read_model(model), rules, dtype="float16", layout="torch")]
    assert kinds == ["float16", "float16", "float64"]


def test_a_type_that_is_not_written_is_refused_by_name(model):
    with pytest.raises(TypeError, match=r"tensor 'positions', by rule '\*', cannot be made: dtype of 'positions'"):
        make_specs(read_model(model), [Rule("*", {"scheme": "zeros"})])


def test_values_of_a_model_are_not_read(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", [("a", "F32", [1 << 36])])  # 256 GiB, which no disk holds
    assert found(tmp_path) == [("a", (1 << 36,))]


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "model-00002-of-00002.safetensors").unlink(), "model-00002-of-00002.safetensors"),
        (lambda folder: write(folder, "{", INDEX), "cannot be read"),
        (lambda folder: write(folder, {}, INDEX), "must have a weight_map"),
        (lambda folder: write(folder, [], INDEX), "must have a weight_map"),
        (lambda folder: write(folder, {"weight_map": {"a": 7}}, INDEX), "must have a weight_map"),
        (lambda folder: write(folder, {"weight_map": {"a": "../b"}}, INDEX), "files of its own folder"),
        (lambda folder: write(folder, {"weight_map": {"a": ".."}}, INDEX), "files of its own folder"),
        (lambda folder: write(folder, {}, f"b{INDEX[5:]}"), "must have one model, and has b.safetensors"),
        (lambda folder: write(folder, "x" * 16, "model-00001-of-00002.safetensors"), "model-00001-of-00002"),
        (
            lambda folder: write_safetensors(folder / sorted(SHARDS)[1], [("norm.weight", "F32", [8])]),
            "'norm.weight', which another file of the model has too",
        ),
    ],
)
def test_a_damaged_model_is_refused_by_the_name_of_its_file(break_it, message, model):
    break_it(model)
    with pytest.raises((OSError, ValueError)) as caught:
        read_model(model)
    assert message in str(caught.value)


@pytest.fixture
def checkpoint(tmp_path):
    """Of three ranks, with tensors of all kinds of shapes."""
    shapes = {"table": (10, 8), "kernel": (5, 2, 3), "bias": (7,), "scalar": (), "empty": (0, 4), "few": (1, 3)}
    specs = [TensorSpec(name, shape, "float32", "normal") for name, shape in shapes.items()]
    for rank in range(3):
        files.write(tmp_path / "dcp", specs, seed=7, format="dcp", rank=rank, world_size=3)
    return tmp_path / "dcp", {(spec.name, spec.shape) for spec in specs}


def test_a_distributed_checkpoint_is_a_model(checkpoint):
    folder, tensors = checkpoint
    assert set(found(folder)) == tensors


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_checkpoint_with_a_missing_shard_is_refused(which, checkpoint):
    """Its tensors would be smaller, or have holes."""
    folder, _ = checkpoint
    sorted(folder.iterdir())[which].unlink()
    with pytest.raises(
        ValueError, match=r"parts of 'table' must make up the whole of it, and \[.* is in no file of the"
    ):
        read_model(folder)
    with pytest.raises(ValueError, match="must make up the whole of it"):
        read_model(sorted(folder.iterdir())[0])


def test_a_checkpoint_with_a_copied_shard_is_refused(checkpoint):
    folder, _ = checkpoint
    first = sorted(folder.iterdir())[0]
    (folder / "copy.safetensors").write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=rf"is in copy\.safetensors and in {first.name}"):
        read_model(folder)


def test_a_checkpoint_of_others_has_the_shapes_that_its_parts_make_up(tmp_path):
    for number, (offsets, shape) in enumerate({(0, 0): [2, 3], (2, 0): [1, 3], (0, 3): [3, 1]}.items()):
        info = json.dumps({"a": {"saved_offsets": offsets}})
        write_safetensors(tmp_path / f"{number}.safetensors", [("a", "F32", shape)], DCP_SHARDING_INFO=info)
    assert found(tmp_path) == [("a", (3, 4))]
    info = json.dumps({"a": {"saved_offsets": [0]}})
    write_safetensors(tmp_path / "3.safetensors", [("a", "F32", [2])], DCP_SHARDING_INFO=info)
    with pytest.raises(ValueError, match="has a part of 'a', and another file one of another tensor of that name"):
        read_model(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must have a \*.safetensors.index.json or a \*.safetensors"):
        read_model(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nothing")


# The public face


@pytest.mark.filterwarnings("ignore:the rule for")
def test_read_recipe_is_what_the_command_writes(tmp_path):
    """The options ``--recipe``, ``--like``, ``--rule``, ``--seed``, ``--dtype`` and ``--layout``, and the arguments."""
    path = write(tmp_path, {"seed": 7, "dtype": "float16", "tensors": {"a.b": [4, 6]}, "rules": {"*": "he_normal"}})
    rules = write(tmp_path, {"rules": {"norm*": "ones", "*": "xavier_normal"}}, "rules.json")
    model = tmp_path / "model.safetensors"
    write_safetensors(model, [("embed.weight", "F32", [100, 8]), ("norm.weight", "F32", [8])])
    for options, arguments in [
        (["--recipe", str(path)], {"path": path}),
        (["--recipe", str(path), "--seed", "8", "--dtype", "float64", "--layout", "torch"],
         {"path": str(path), "seed": 8, "dtype": "float64", "layout": "torch"}),
        (["--recipe", str(path), "--rule", "b", "ones"], {"path": path, "rules": {"b": "ones"}}),
        (["--like", str(model), "--rule", "*", "normal", "--seed", "3"],
         {"like": model, "rules": {"*": "normal"}, "seed": 3}),
        (["--like", str(model), "--rule", "*", "ones", "--rule", "*", "zeros"],
         {"like": model, "rules": {"*": "ones"}}),
        (["--like", str(model), "--recipe", str(rules), "--seed", "3"], {"like": model, "path": rules, "seed": 3}),
    ]:  # fmt: skip
        file = tmp_path / "a.safetensors"
        assert main(["fill", str(file), *options, "--force"]) == 0
        recipe = files.read_recipe(**arguments)
        assert files.verify(file).is_right
        assert safetensors.read(file).recipe == recipe
        assert files.verify(file, recipe=recipe).is_right


def test_rules_of_an_argument_are_those_of_a_file_and_come_before_them(tmp_path):
    path = write(tmp_path, {"dtype": "float16", "tensors": {"a": [4, 6], "b": [6], "c": [6]}, "rules": {"*": "ones"}})
    rules = {
        "a": {"scheme": winit_fast.scheme("he_normal"), "in_axis": 1, "out_axis": 0, "dtype": "float32"},
        "b": None,
    }
    found = files.read_recipe(path, rules=rules, seed=7)
    a = TensorSpec("a", (4, 6), "float32", "he_normal", in_axis=1, out_axis=0)
    assert found == Recipe((a, TensorSpec("c", (6,), "float16", "ones")), 7)


def test_read_recipe_warns_of_a_rule_that_matches_nothing(tmp_path):
    path = write(tmp_path, {"tensors": {"a": [4]}, "rules": {"*": "ones"}})
    with pytest.warns(UserWarning, match="the rule for 'aa' matches no tensor"):
        files.read_recipe(path, rules={"aa": "zeros"})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("he_norml", "the rule for 'aa' cannot be used: scheme 'he_norml' is unknown; did you mean 'he_normal'?"),
        ({"scheme": "ones", "dtype": "floot16"}, "the rule for 'aa' cannot be used: dtype"),
        ({"scheme": "ones", "in_axis": "first"}, "the rule for 'aa' cannot be used: in_axis"),
        ({"schema": "ones"}, "rules[0] has no key 'schema'; did you mean 'scheme'?"),
    ],
)
@pytest.mark.parametrize("glob", ["aa", "a"])
def test_a_rule_that_cannot_be_used_is_refused_even_where_it_takes_nothing(rule, message, glob, tmp_path):
    """No name matches it, or the tensor that it matches has a scheme of its own."""
    path = write(tmp_path, {"tensors": {"a": {"shape": [4], "scheme": "zeros", "dtype": "float32"}}})
    with pytest.raises((TypeError, ValueError), match=re.escape(message.replace("aa", glob))):
        files.read_recipe(path, rules={glob: rule})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "path must be given, or like: a recipe needs tensors"),
        ({"path": ""}, "path must be a name, got ''"),
        ({"like": ""}, "like must be a name, got ''"),
        ({"path": "none.json"}, "none.json must have tensors, unless like gives them"),
        ({"path": "some.json", "like": "model"}, "like takes the tensors of a model, and some.json has tensors of its"),
        ({"path": "some.json", "layout": "keras"}, "layout must be one of torch, numpy, got 'keras'"),
        ({"path": "some.json", "rules": {"*": "normal"}}, "seed must be"),
        ({"path": "some.json", "rules": {"*": None}}, "tensors must be one or more, got none: the rules leave all"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"rules": {}}, "none.json")
    write(tmp_path, {"tensors": {"a": [4, 4]}, "rules": {"*": "ones"}}, "some.json")
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        files.read_recipe(**arguments)


@pytest.mark.parametrize(("name", "is_told"), [("a.yaml", True), ("a", True), ("a.json", False), ("a.JSON", False)])
def test_a_recipe_of_another_suffix_is_told_what_a_recipe_is(name, is_told, tmp_path):
    (tmp_path / name).write_text("seed: 7")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        files.read_recipe(tmp_path / name)
    assert str(caught.value).endswith("; a recipe is JSON, or TOML if its name ends in .toml") == is_told


@pytest.fixture
def batch_norm(tmp_path):
    """A model as PyTorch has it, with a count that is an integer."""
    text = (
        b'{"bn.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
        b'"bn.weight":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}'
    )
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    return path


def test_an_integer_of_a_model_is_refused_with_the_rule_that_leaves_it_out(batch_norm, tmp_path, capsys):
    name = "bn.num_batches_tracked"
    with pytest.raises(TypeError, match=re.escape(f"; rules={{'{name}': None}} leaves it out")):
        files.read_recipe(like=batch_norm, rules={"*": "ones"})
    assert [spec.name for spec in files.read_recipe(like=batch_norm, rules={name: None, "*": "ones"}).tensors] == [
        "bn.weight"
    ]
    given = ["fill", str(tmp_path / "a.safetensors"), "--like", str(batch_norm)]
    assert main([*given, "--rule", "*", "ones"]) == 2
    assert f"got 'int64'; --rule '{name}' none leaves it out\n" in capsys.readouterr().err
    assert main([*given, "--rule", name, "none", "--rule", "*", "ones"]) == 0


def test_a_scheme_that_is_misspelt_is_named_before_the_dtype_of_the_model(batch_norm):
    with pytest.raises((TypeError, ValueError), match="did you mean 'ones'") as caught:
        files.read_recipe(like=batch_norm, rules={"*": "onse"})
    assert "int64" not in str(caught.value)
    assert "leaves it out" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hi\n", b"PK\x03\x04" + bytes(100), b"\x80\x02\x8a\nl\xfc" + bytes(100)])
def test_a_model_that_is_no_safetensors_file_is_told_what_is_needed(content, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"a model is a safetensors file, its \*\.index\.json, or a folder with one$"
    ) as caught:
        files.read_recipe(like=path, rules={"*": "ones"})
    assert str(path) in str(caught.value)
