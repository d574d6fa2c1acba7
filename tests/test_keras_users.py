"""adapters.keras: what people do with initializers of Keras besides handing them to layers.

On each backend in a process of its own, which tests/test_keras_initializers.py starts.
"""

import copy
import inspect
import json
import os
import pickle
import random
import warnings
from abc import ABC
from functools import partial

import numpy as np
import pytest
from arrays import same
from processes import printed

import winit_fast

if "KERAS_INSIDE" not in os.environ:
    pytest.skip("tests/test_keras_initializers.py starts it", allow_module_level=True)

import keras

from winit_fast import adapters

pytestmark = pytest.mark.frameworks

ours = adapters.keras
BACKEND = keras.backend.backend()
REPEATS = winit_fast.RepeatedValuesWarning

on_jax = pytest.mark.skipif(BACKEND != "jax", reason="JAX's")


def values(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(winit_fast.empty(shape, dtype), scheme, **{"name": 0, **arguments})


# The base class


def test_initializer_is_the_base_class_of_every_initializer():
    class Own(keras.initializers.Initializer):
        pass

    for initializer in (
        ours.HeNormal(), ours.SchemeInitializer("ones"), keras.initializers.Zeros(), Own(),
        keras.initializers.get("winit_fast>he_normal"),
    ):  # fmt: skip
        assert isinstance(initializer, ours.Initializer)
        assert issubclass(type(initializer), ours.Initializer)
    assert not isinstance("zeros", ours.Initializer)
    assert issubclass(ours.Initializer, keras.initializers.Initializer)


@pytest.mark.filterwarnings("error:Initializer is")
def test_the_base_class_is_subclassed_as_that_of_keras():
    class Halves(ours.Initializer):
        def __call__(self, shape, dtype=None):
            return keras.ops.full(shape, 0.5, dtype)

    class Scaled(ours.Initializer, ABC):
        def __init__(self, mean, stddev):
            super().__init__()
            self.mean, self.stddev = mean, stddev

        def __call__(self, shape, dtype=None):
            return keras.random.normal(shape, self.mean, self.stddev, dtype=dtype)

        def get_config(self):
            return {"mean": self.mean, "stddev": self.stddev}

    assert Halves().get_config() == {}
    assert "Halves object at" in repr(Halves())
    assert Scaled(1, stddev=2).clone().get_config() == {"mean": 1, "stddev": 2}
    assert isinstance(Halves(), Halves)
    assert not isinstance(Halves(), Scaled)
    assert not isinstance(keras.initializers.Zeros(), Halves)
    assert not issubclass(Halves, Scaled)
    layer = keras.layers.MultiHeadAttention(2, 3, kernel_initializer=Halves(), bias_initializer=Scaled(9, 0.1))
    layer.build((None, 4, 5), (None, 4, 5))
    assert [weight.mean() > 5 or (weight == 0.5).all() for weight in map(values, layer.weights)] == [True] * 8
    with pytest.raises(NotImplementedError):
        ours.Initializer()((2, 2))


@on_jax
def test_a_subclass_of_the_base_class_gets_layouts():
    if "layout" not in inspect.signature(keras.Variable.__init__).parameters:
        pytest.skip("this Keras hands no layout to initializers")
    import jax

    class Ones(ours.Initializer):
        def __call__(self, shape, dtype=None, layout=None):
            return jax.numpy.ones(shape, dtype, out_sharding=getattr(layout, "backend_layout", layout))

    mesh = keras.distribution.DeviceMesh((2, 4), ("batch", "model"))
    layouts = keras.distribution.LayoutMap(mesh)
    layouts["kernel"] = keras.distribution.TensorLayout([None, "model"])
    with keras.distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch").scope():
        plain, whole = (
            keras.Variable(one, (2, 8), dtype, name="kernel", trainable=False)
            for one, dtype in ((Ones(), "float32"), (ours.SchemeInitializer("constant(3)"), "int32"))
        )
    assert {shard.data.shape for shard in plain.value.addressable_shards} == {(2, 2)}
    assert {shard.data.shape for shard in whole.value.addressable_shards} == {(2, 2)}
    assert (np.asarray(whole.value) == 3).all()


def test_initializer_given_a_scheme_warns_and_is_a_scheme_initializer():
    with pytest.warns(DeprecationWarning, match="SchemeInitializer") as caught:
        old = ours.Initializer("he_normal", seed=7, name="x")
    assert caught[0].filename == __file__
    assert type(old) is ours.SchemeInitializer
    assert same(values(old((4, 5))), filled((4, 5), "he_normal", seed=7, name="x"))
    with pytest.warns(DeprecationWarning, match="SchemeInitializer"):
        assert ours.Initializer(scheme="ones").scheme == winit_fast.scheme("ones")
    with (
        pytest.raises(ValueError, match="did you mean 'he_normal'"),
        pytest.warns(DeprecationWarning, match="SchemeInitializer"),
    ):
        ours.Initializer("he_norml")


@keras.saving.register_keras_serializable("tests")
class Spread(ours.Initializer):
    """As a subclass was written when Initializer was the class that has a scheme."""

    def __init__(self, std=0.1, seed=None):
        super().__init__(f"normal(std={std})", seed)
        self.std = std

    def get_config(self):
        return {"std": self.std, "seed": self.seed}


@keras.saving.register_keras_serializable("tests")
class Doubled(ours.Initializer):
    def __call__(self, shape, dtype=None, layout=None):
        return super().__call__(shape, dtype, layout) * 2


@pytest.mark.filterwarnings("ignore:Initializer is")
@pytest.mark.parametrize(
    ("make", "factor"), [(lambda: Spread(0.5, seed=7), 1), (lambda: Doubled("normal(std=0.5)", 7), 2)]
)
def test_a_subclass_of_initializer_given_a_scheme_is_pickled_copied_and_saved(make, factor, tmp_path):
    one = make()
    expected = filled((4, 3), "normal(std=0.5)", seed=7) * factor
    written = keras.saving.serialize_keras_object(one)
    assert written["registered_name"] == f"tests>{type(one).__name__}"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer=one)])
    model.save(tmp_path / "model.keras")
    saved = keras.saving.load_model(tmp_path / "model.keras")
    for again in (
        one, pickle.loads(pickle.dumps(one)), copy.deepcopy(one), one.clone(),
        keras.saving.deserialize_keras_object(json.loads(json.dumps(written))),
        saved.layers[0].kernel_initializer, keras.models.clone_model(model).layers[0].kernel_initializer,
    ):  # fmt: skip
        assert type(again) is type(one)
        assert again.scheme == winit_fast.scheme("normal(std=0.5)")
        assert same(values(again((4, 3))), expected)
    one.seed = 8
    assert not same(values(one((4, 3))), expected)


# Initializer("he_normal", 5), HeNormal() and HeNormal(3), pickled when Initializer was the class that has a scheme.
PICKLED = (
    b"\x80\x04\x95\xb3\x01\x00\x00\x00\x00\x00\x00]\x94(\x8c%winit_fast.adapters.keras.initia"
    b"lizer\x94\x8c\x0bInitializer\x94\x93\x94)\x81\x94}\x94(\x8c\x06scheme\x94\x8c\x13winit_fas"
    b"t.registry\x94h\x06\x93\x94\x8c\the_normal\x94\x85\x94R\x94\x8c\x04seed\x94K\x05\x8c\x04name\x94K"
    b"\x00\x8c\x07in_axis\x94N\x8c\x08out_axis\x94N\x8c\nbatch_axis\x94)\x8c\x0bpadding_"
    b"idx\x94N\x8c\x07threads\x94Nub\x8c!winit_fast.adapters.keras.dr"
    b"op_in\x94\x8c\x08HeNormal\x94\x93\x94)\x81\x94}\x94(\x8c\x05scale\x94G@\x00\x00\x00\x00\x00\x00\x00\x8c\x04mode"
    b"\x94\x8c\x06fan_in\x94\x8c\x0cdistribution\x94\x8c\x10truncated_normal\x94\x8c\nin"
    b"put_axes\x94N\x8c\x0boutput_axes\x94N\x8c\n_init_seed\x94Nh\x0cJ\x8d\xc3\x8b6ub"
    b"h\x15)\x81\x94}\x94(h\x18G@\x00\x00\x00\x00\x00\x00\x00h\x19h\x1ah\x1b\x8c\x10truncated_normal\x94h\x1dNh"
    b"\x1eNh\x1fK\x03h\x0cK\x03ube."
)


def test_what_older_versions_pickled_is_loaded():
    old, unseeded, seeded = pickle.loads(PICKLED)
    assert type(old) is ours.SchemeInitializer
    assert same(values(old((4, 5))), filled((4, 5), "he_normal", seed=5))
    assert same(values(old.clone()((4, 5))), values(old((4, 5))))
    keras.layers.EinsumDense("ab,bc->ac", 3, kernel_initializer=old).build((None, 4))
    assert unseeded.seed is None
    assert not same(values(unseeded((4, 5))), values(unseeded((4, 5))))
    assert seeded.seed == 3
    assert same(values(seeded((4, 5))), values(ours.HeNormal(3)((4, 5))))
    unseeded.seed = 3
    for again in unseeded, pickle.loads(pickle.dumps(unseeded)):
        assert same(values(again((4, 5))), values(seeded((4, 5))))


def test_a_subclass_of_initializer_given_a_scheme_still_draws_it():
    class Noted(ours.Initializer):
        def __call__(self, shape, dtype=None, layout=None):
            self.shape = shape
            return super().__call__(shape, dtype, layout)

    class Named(ours.Initializer):
        def __init__(self, name):
            super().__init__("normal", seed=7, name=name)

    with pytest.warns(DeprecationWarning, match="SchemeInitializer"):
        noted, named = Noted("normal", seed=7, name="x"), Named("x")
    for one in (noted, named):
        assert same(values(one((4, 5))), filled((4, 5), "normal", seed=7, name="x"))
    assert (type(noted), type(named)) == (Noted, Named)
    assert noted.shape == (4, 5)
    assert noted.clone().get_config() == noted.get_config()


@pytest.mark.filterwarnings("error:Initializer is")
def test_what_was_saved_under_the_old_name_is_loaded():
    config = {
        "module": "winit_fast.adapters.keras.initializer", "class_name": "Initializer",
        "config": {"scheme": "he_normal", "seed": 7, "name": "x", "in_axis": [0], "out_axis": None, "batch_axis": [],
                   "padding_idx": None, "threads": None},
        "registered_name": "winit_fast>Initializer",
    }  # fmt: skip
    for found in keras.initializers.deserialize(config), keras.saving.deserialize_keras_object(config):
        assert type(found) is ours.SchemeInitializer
        assert same(values(found((4, 5))), filled((4, 5), "he_normal", seed=7, name="x"))
        assert keras.initializers.serialize(found)["registered_name"] == "winit_fast>SchemeInitializer"


def test_a_file_that_needs_us_says_so_where_we_are_not_imported(tmp_path):
    files = str(tmp_path / "class.keras"), str(tmp_path / "scheme.keras")
    for file, initializer in zip(files, (ours.HeNormal(), "winit_fast>he_normal"), strict=True):
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer=initializer)]).save(file)
    code = f"""
import keras
def show(file):
    print(type(keras.models.load_model(file).layers[0].kernel_initializer).__name__)
by_class, by_scheme = {files!r}
show(by_class)
try:
    show(by_scheme)
except Exception as error:
    print(str(error).splitlines()[-1])
import winit_fast.adapters.keras
show(by_class)
show(by_scheme)
"""
    read_as_keras, refused, *read_as_ours = printed(code, KERAS_BACKEND=BACKEND).splitlines()
    assert read_as_keras == "HeNormal"  # the drop-in's classes are read as Keras's
    assert "winit_fast.adapters.keras" in refused
    assert read_as_ours == ["HeNormal", "SchemeInitializer"]


# By name


def test_what_stands_under_a_name_is_an_initializer_itself():
    found = keras.saving.deserialize_keras_object("winit_fast>he_normal")  # as a table's configuration in keras-rs
    assert keras.initializers.get(found) is found
    assert isinstance(found, ours.SchemeInitializer)
    assert not (values(found((4, 5))) == values(found((4, 5)))).any()
    assert found.clone().get_config() == found.get_config()
    again = keras.initializers.deserialize(json.loads(json.dumps(keras.initializers.serialize(found))))
    assert again.scheme == found.scheme
    assert pickle.loads(pickle.dumps(found)).scheme == found.scheme
    table = keras.layers.Embedding(4, 5, embeddings_initializer=found)
    table.build()
    assert values(table.embeddings).std() > 0


def test_a_name_makes_a_new_initializer_of_a_configuration():
    first, second = (
        keras.initializers.get({"class_name": "winit_fast>he_normal", "config": {"seed": seed}}) for seed in (7, 8)
    )
    assert (first.seed, second.seed) == (7, 8)
    assert keras.saving.deserialize_keras_object("winit_fast>he_normal").seed is None


def test_a_scheme_with_arguments_is_had_by_a_configuration():
    identifier = {"class_name": "winit_fast>SchemeInitializer", "config": {"scheme": "normal(std=0.02)"}}
    layer = keras.layers.Dense(4, kernel_initializer=identifier)
    assert layer.kernel_initializer.scheme == winit_fast.scheme("normal", std=0.02)
    assert ours.get("winit_fast>normal(std=0.02)").scheme == layer.kernel_initializer.scheme
    assert ours.get("winit_fast>constant(3)").scheme == winit_fast.scheme("constant", value=3)


def test_get_says_which_scheme_was_meant():
    with pytest.raises(ValueError, match="did you mean 'he_normal'"):
        ours.get("winit_fast>he_norml")
    with pytest.raises(TypeError, match=r"constant.*value"):
        ours.get("winit_fast>constant")
    assert type(ours.get("winit_fast>HeNormal")) is ours.HeNormal


def test_dir_shows_the_public_names_alone():
    assert dir(ours) == sorted(ours.__all__)
    assert {"SchemeInitializer", "Initializer", "HeNormal", "init_"} <= set(dir(ours))


# Whole numbers


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "bool"])
@pytest.mark.parametrize("scheme", ["zeros", "ones", "constant(1)", "normal(mean=1, std=0)"])
def test_constants_are_made_of_whole_numbers(scheme, dtype):
    value = 0 if scheme == "zeros" else 1
    for arguments in ({}, {"padding_idx": 1}):
        made = values(ours.SchemeInitializer(scheme, **arguments)((3, 2), dtype))
        expected = np.full((3, 2), value, dtype)
        expected[1:2] *= not arguments
        assert same(made, expected)
    variable = keras.Variable(np.zeros((3, 2)), dtype=dtype, trainable=False)
    ours.init_(variable, scheme)
    assert same(values(variable), np.full((3, 2), value, dtype))
    assert ours.SchemeInitializer(scheme)((0, 2), dtype).shape == (0, 2)


@pytest.mark.parametrize(
    ("scheme", "dtype", "arguments"),
    [("constant(0.5)", "int32", {}), ("constant(300)", "uint8", {}), ("constant(-1)", "uint8", {}),
     ("constant(2)", "bool", {}), ("ones", "int32", {"padding_idx": 3}), ("ones", "int32", {"threads": 0}),
     ("normal", "int32", {}), ("identity", "int32", {})],
)  # fmt: skip
def test_whole_numbers_that_would_change_are_refused(scheme, dtype, arguments):
    with pytest.raises((TypeError, ValueError)):
        ours.SchemeInitializer(scheme, seed=1, **arguments)((3, 2), dtype)


# Draws


@pytest.mark.parametrize(
    "make",
    [
        *(partial(ours.SchemeInitializer, scheme)
          for scheme in ("ones", "constant(2)", "identity", "normal(std=0)", "uniform(1, 1)", "orthogonal(0)")),
        lambda seed: ours.RandomNormal(stddev=0, seed=seed),
        lambda seed: ours.RandomUniform(1, 1, seed=seed),
        lambda seed: ours.Constant(2),
        lambda seed: ours.Identity(),
    ],
)  # fmt: skip
def test_what_draws_nothing_takes_no_draw(make):
    generator = keras.random.SeedGenerator(3)
    initializers = make(None), make(generator)
    before, state = random.getstate(), values(generator.state)
    for initializer in initializers:
        initializer((3, 3))
    assert random.getstate() == before
    assert same(values(generator.state), state)


def test_init_takes_no_draw_for_what_draws_nothing():
    generator = keras.random.SeedGenerator(3)
    variable = keras.Variable(np.zeros((3, 2), "float32"))
    before, state = random.getstate(), values(generator.state)
    ours.init_(variable, "ones", seed=generator)
    ours.init_(variable, "ones")
    assert (random.getstate(), values(generator.state).tolist()) == (before, state.tolist())


def test_the_seed_of_an_unseeded_class_is_none_and_one_that_is_set_governs():
    for make in (ours.HeNormal, ours.Orthogonal, lambda: ours.SchemeInitializer("normal")):
        initializer = make()
        assert initializer.seed is None
        initializer.seed = 5
        assert initializer.seed == 5
        assert same(values(initializer((4, 5))), values(initializer((4, 5))))
        assert make().seed is None
    assert pickle.loads(pickle.dumps(ours.HeNormal())).seed is None
    assert pickle.loads(pickle.dumps(ours.HeNormal(seed=3))).seed == 3


def test_two_layers_of_one_seed_without_names_are_warned_of_once():
    layers = []  # kept: memory that is given back and taken again would be the same tensor, filled again

    def build(initializer):
        layers.append(keras.layers.Dense(4, kernel_initializer=initializer))
        layers[-1].build((None, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("error", REPEATS)
        build(ours.SchemeInitializer("he_normal", seed=991))
    with pytest.warns(REPEATS, match="name="):
        build(ours.SchemeInitializer("he_normal", seed=991))
    with warnings.catch_warnings():
        warnings.simplefilter("error", REPEATS)
        for _ in range(3):
            build(ours.SchemeInitializer("he_normal", seed=991))  # once
            build(ours.SchemeInitializer("he_normal", seed=992, name="kernel"))
            build(ours.HeNormal(seed=993))  # Keras says so of it
            keras.utils.set_random_seed(1)
            build(ours.SchemeInitializer("he_normal"))
        variable = keras.Variable(np.zeros((3, 2), "float32"))
        for _ in range(3):
            ours.init_(variable, "he_normal", seed=994)


# Constants of Keras


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_constant_that_is_no_number_is_what_keras_makes(value, dtype):
    made, theirs = (of.Constant(value)((2, 3), dtype) for of in (ours, keras.initializers))
    assert made.dtype == theirs.dtype
    np.testing.assert_array_equal(values(made).astype("float32"), values(theirs).astype("float32"))
    variable = keras.Variable(ours.Constant(value), shape=(2,), dtype=dtype)
    np.testing.assert_array_equal(values(variable).astype("float32"), np.full(2, value, "float32"))


# JAX

WAYS = {
    "grad": lambda jax, f: jax.grad(f)(np.ones(4, "float32")),
    "vmap": lambda jax, f: jax.vmap(f)(np.ones((2, 4), "float32")),
    "jacfwd": lambda jax, f: jax.jacfwd(f)(np.ones(4, "float32")),
    "vmap of grad": lambda jax, f: jax.vmap(jax.grad(f))(np.ones((2, 4), "float32")),
    "value and grad": lambda jax, f: jax.value_and_grad(f)(np.ones(4, "float32")),
}
MAKES = {
    "unseeded": lambda: ours.SchemeInitializer("he_normal"),
    "int": lambda: ours.SchemeInitializer("he_normal", seed=7),
    "generator": lambda: ours.SchemeInitializer("he_normal", seed=keras.random.SeedGenerator(7)),
    "constant": lambda: ours.SchemeInitializer("constant(0.5)"),
    "orthogonal": lambda: ours.Orthogonal(seed=7),
    "class": lambda: ours.HeNormal(),
    "class with a generator": lambda: ours.HeNormal(keras.random.SeedGenerator(7)),
}


@on_jax
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MAKES)
@pytest.mark.filterwarnings("ignore::winit_fast.RepeatedValuesWarning")
def test_a_layer_may_be_built_within_a_transformation(way, kind):
    import jax

    layer = keras.layers.Dense(3, kernel_initializer=MAKES[kind]())
    WAYS[way](jax, lambda x: layer(x[None]).sum())
    kernel = values(layer.kernel)
    assert kernel.shape == (4, 3)
    assert kernel.any()
    if kind == "int":
        assert same(kernel, filled((4, 3), "he_normal", seed=7))


class Wrapped:
    """As keras-rs wraps an initializer of Keras for JAX."""

    def __init__(self, initializer):
        self.initializer = initializer

    def __call__(self, key, shape, dtype):
        before = self.initializer.seed
        self.initializer.seed = key
        made = self.initializer(shape, dtype)
        self.initializer.seed = before
        return made


@on_jax
@pytest.mark.parametrize(
    "make", [lambda: ours.SchemeInitializer("normal"), lambda: ours.SchemeInitializer("normal", seed=3),
             lambda: ours.RandomNormal(stddev=1), lambda: ours.RandomNormal(stddev=1, seed=3),
             lambda: keras.saving.deserialize_keras_object("winit_fast>normal")],
)  # fmt: skip
def test_a_key_of_jax_that_is_set_as_the_seed_governs(make):
    import jax

    wrapped = Wrapped(make())
    before = wrapped.initializer.seed
    for key in (jax.random.key(7), jax.random.PRNGKey(7), np.array([0, 7], "uint32") + jax.numpy.uint32(0)):
        made = wrapped(key, (4, 3), "float32")
        assert same(np.asarray(made), filled((4, 3), "normal", seed=7))
        traced = jax.jit(lambda key: wrapped(key, (4, 3), "float32"))(key)
        assert same(np.asarray(traced), np.asarray(made))
    assert wrapped.initializer.seed is before
    other = jax.random.key(7, impl="rbg")
    expected = adapters.jax.init((4, 3), "normal", key=other)
    assert same(np.asarray(wrapped(other, (4, 3), "float32")), np.asarray(expected))


@on_jax
def test_a_key_of_jax_is_taken_as_the_seed_and_saved():
    import jax

    initializer = ours.SchemeInitializer("normal", seed=jax.random.key(7))
    again = keras.initializers.deserialize(json.loads(json.dumps(keras.initializers.serialize(initializer))))
    for one in (initializer, again, initializer.clone()):
        assert same(values(one((4, 3))), filled((4, 3), "normal", seed=7))
    assert ours.SchemeInitializer("normal", seed=jax.numpy.uint32(7)).seed == 7
    for wrong in (jax.numpy.ones(2), jax.numpy.ones((2, 2), "uint32"), jax.random.split(jax.random.key(1))):
        with pytest.raises(TypeError, match="seed must be an int in"):
            ours.SchemeInitializer("normal", seed=wrong)


@on_jax
@pytest.mark.parametrize("initializer", ["winit_fast>he_normal", "object"])
def test_tables_of_keras_rs_are_configured_by_name_and_by_object(initializer):
    layers = pytest.importorskip("keras_rs").layers
    given = ours.SchemeInitializer("he_normal", seed=3, name="x") if initializer == "object" else initializer
    table = layers.TableConfig("t", 10, 4, initializer=given, optimizer="sgd", combiner="mean")
    layer = layers.DistributedEmbedding({"a": layers.FeatureConfig("a", table, (2, 3), (2, 4))})
    for _ in range(2):
        layer = layers.DistributedEmbedding.from_config(layer.get_config())
        layer({"a": np.ones((2, 3), "int32")})
        assert values(layer.weights[0]).std() > 0


@on_jax
@pytest.mark.parametrize(
    "make", [lambda: ours.SchemeInitializer("normal"), lambda: ours.HeNormal(), lambda: ours.HeNormal(3),
             lambda: keras.saving.deserialize_keras_object("winit_fast>normal")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["raw", "threefry2x32", "rbg"])
def test_a_layer_is_built_of_an_initializer_whose_seed_was_set_to_a_key(make, kind):
    import jax

    one = make()
    one.seed = jax.random.PRNGKey(7) if kind == "raw" else jax.random.key(7, impl=kind)
    layer = keras.layers.EinsumDense("ab,bc->ac", 3, kernel_initializer=one)
    layer.build((None, 4))
    assert same(values(layer.kernel), values(one((4, 3))))
    keras.layers.MultiHeadAttention(2, 3, kernel_initializer=one).build((None, 4, 5), (None, 4, 5))
    written = json.loads(json.dumps(keras.saving.serialize_keras_object(one)))
    if isinstance(one, ours.SchemeInitializer):  # the others write the seed of their constructor, as Keras's
        for again in keras.saving.deserialize_keras_object(written), one.clone():
            assert same(values(again((4, 3))), values(one((4, 3))))


def test_a_seed_that_is_set_is_checked():
    for wrong in -1, 2**64, "7":
        one = ours.SchemeInitializer("normal", seed=3)
        with pytest.raises((TypeError, ValueError), match="seed must be"):
            one.seed = wrong
        assert one.seed == 3
