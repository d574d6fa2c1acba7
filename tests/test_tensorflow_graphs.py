"""adapters.tensorflow in graphs of TensorFlow 1, and schemes that draw nothing: no draw, integers, saved models."""

import copy
import gc
import pickle
import weakref
from textwrap import dedent

import numpy as np
import pytest
from arrays import DTYPES, same
from processes import python

import winit_fast
from winit_fast import adapters

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.frameworks

init, init_, Initializer = adapters.tensorflow.init, adapters.tensorflow.init_, adapters.tensorflow.Initializer
CONSTANTS = ["zeros", "ones", "constant(-0.75)", "normal(std=0)"]
STRUCTURES = ["identity", "array([[1, 2], [3, 4]])"]
WHOLE = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
v1 = tf.compat.v1


def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(np.empty(shape, DTYPES.get(dtype, dtype)), scheme, **({"seed": 7} | arguments))


def run(make, seed=None, times=1):
    """What tensors of a graph of TensorFlow 1 are in each of so many runs of one session."""
    with tf.Graph().as_default(), v1.Session() as session:
        if seed is not None:
            v1.set_random_seed(seed)
        made = make()
        session.run(v1.global_variables_initializer())
        runs = [session.run(made) for _ in range(times)]
    return runs if times > 1 else runs[0]


# Graphs of TensorFlow 1


@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", *CONSTANTS, *STRUCTURES])
def test_a_graph_takes_an_initializer_with_and_without_a_seed(scheme):
    assert same(run(lambda: Initializer(scheme, seed=7)((2, 2))), filled((2, 2), scheme))
    unseeded = run(lambda: Initializer(scheme)((2, 2)))
    assert unseeded.any() == (scheme not in ("zeros", "normal(std=0)"))
    if not winit_fast.scheme(scheme).draws:
        assert same(unseeded, filled((2, 2), scheme))


def test_two_variables_of_an_unseeded_initializer_differ_in_a_graph():
    initializer = Initializer("normal")
    graphs = []

    def make():
        graphs.append(v1.get_default_graph())
        return [initializer((4, 4)), initializer((4, 4))]

    first, second = run(make)
    assert not (first == second).any()
    assert not adapters.tensorflow._find_unfinished(graphs[0])[initializer]  # nothing is left of what is complete


@pytest.mark.parametrize("make", [lambda: init((4, 4), "normal"), lambda: Initializer("normal")((4, 4))])
def test_the_seed_of_a_graph_governs_what_is_drawn_in_it(make):
    first, again, other = (run(make, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not (first == other).any()
    assert not (run(make) == run(make)).any()


@pytest.mark.parametrize("seed", [None, 5])
def test_a_graph_draws_whenever_it_runs(seed):
    one, two = run(lambda: Initializer("normal")((4, 4)), seed=seed, times=2)
    assert not (one == two).any()


@pytest.mark.parametrize("is_resource", [False, True])
def test_get_variable_takes_an_initializer(is_resource):
    def make():
        return v1.get_variable("w", (4, 6), initializer=Initializer("he_normal", seed=7), use_resource=is_resource)

    assert same(run(make), filled((4, 6), "he_normal"))

    def unseeded(name="w"):
        return v1.get_variable(name, (4, 6), initializer=Initializer("he_normal"), use_resource=is_resource)

    one, other = run(lambda: [unseeded("a"), unseeded("b")])
    assert not (one == other).any()


@pytest.mark.parametrize("graph_seed", [None, 5])
@pytest.mark.parametrize("scheme", ["he_normal", "orthogonal", "ones"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("seed", [7, None])
def test_the_parts_of_a_partitioner_are_one_table(scheme, axis, seed, graph_seed):
    def make():
        split = v1.fixed_size_partitioner(3, axis=axis)
        variable = v1.get_variable("table", (12, 6), initializer=Initializer(scheme, seed=seed), partitioner=split)
        assert len(list(variable)) == 3
        return tf.concat(list(variable), axis)

    table = run(make, seed=graph_seed)
    if seed is not None or scheme == "ones":
        assert same(table, filled((12, 6), scheme))
    elif scheme == "orthogonal":
        np.testing.assert_allclose(table.T @ table, np.eye(6), atol=1e-6)
    else:
        assert len(np.unique(table)) == table.size


def stop(*arguments, **keywords):
    raise KeyboardInterrupt


def assert_is_orthogonal(table):
    np.testing.assert_allclose(table.T @ table, np.eye(6), atol=1e-6)  # one matrix, not a mixture of two


@pytest.mark.parametrize("graph_seed", [None, 5])
def test_a_table_that_was_interrupted_between_its_parts_gives_none_to_the_next_table(graph_seed):
    initializer, split = Initializer("orthogonal"), v1.fixed_size_partitioner(2)
    calls = iter([initializer, stop])

    def stop_behind_one(shape, dtype=None, partition_info=None):  # TensorFlow looks for the names
        return next(calls)(shape, dtype, partition_info=partition_info)

    def make():
        with pytest.raises(KeyboardInterrupt):
            v1.get_variable("one", (12, 6), initializer=stop_behind_one, partitioner=split)
        return tf.concat(list(v1.get_variable("two", (12, 6), initializer=initializer, partitioner=split)), 0)

    assert_is_orthogonal(run(make, seed=graph_seed))


@pytest.mark.parametrize("starts_again", [False, True])
@pytest.mark.parametrize("in_graph", [False, True])
def test_a_part_that_was_interrupted_is_made_again_alone_or_with_its_table(in_graph, starts_again, monkeypatch):
    initializer = Initializer("orthogonal")

    def make_part(first):
        return initializer((12, 6), partition_shape=(6, 6), partition_offset=(first, 0))

    def make():
        first = make_part(0)
        with monkeypatch.context() as patch:
            patch.setattr(tf, "py_function", stop)
            patch.setattr(tf.raw_ops, "Empty", stop)
            with pytest.raises(KeyboardInterrupt):
                make_part(6)
        return tf.concat([make_part(0) if starts_again else first, make_part(6)], 0)

    assert_is_orthogonal(run(make, seed=5) if in_graph else make().numpy())


def test_one_initializer_serves_graphs_and_eager_code_by_turns():
    initializer = Initializer("normal")
    part = {"partition_shape": (2, 4), "partition_offset": (0, 0)}
    eager = initializer((4, 4), **part).numpy()  # left unfinished
    first = run(lambda: initializer((4, 4), **part))
    second = run(lambda: initializer((4, 4), partition_shape=(2, 4), partition_offset=(2, 0)))
    assert len(np.unique(np.concatenate([eager, first, second]))) == 24


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_an_initializer_with_a_part_of_a_graph_is_copied_and_lets_the_graph_go(copied):
    one = Initializer("normal")
    part = {"partition_shape": (2, 3), "partition_offset": (0, 0)}
    with tf.Graph().as_default() as graph:
        one((4, 3), tf.float32, **part)
        assert copied(one).get_config() == one.get_config()
    assert copied(one)((4, 3), tf.float32, **part).shape == (2, 3)
    held = weakref.ref(graph)
    del graph
    gc.collect()
    assert held() is None


def test_an_initializer_that_an_older_version_pickled_makes_the_same():
    one = Initializer("he_normal", seed=7)
    old = copy.copy(one)
    del old.__dict__["matrices"]
    old.__dict__["_unfinished"] = []
    assert same(pickle.loads(pickle.dumps(old))((4, 3)).numpy(), one((4, 3)).numpy())


def test_autograph_reads_an_unseeded_initializer_without_a_warning(tmp_path):
    code = """
        import tensorflow as tf
        from winit_fast import adapters

        initializer = adapters.tensorflow.Initializer("normal")

        @tf.function
        def make():
            return initializer((4, 3))

        print(make().shape)
    """
    (tmp_path / "traced.py").write_text(dedent(code))  # a file, whose source can be read
    done = python(str(tmp_path / "traced.py"))
    assert "(4, 3)" in done.stdout
    assert "AutoGraph" not in done.stderr


def test_a_function_inside_of_a_graph_takes_an_initializer():
    initializer = Initializer("normal")

    def make():
        return tf.function(lambda: initializer((4, 4)))()

    assert run(make).any()
    assert same(run(tf.function(lambda: Initializer("normal", seed=7)((4, 4)))), filled((4, 4), "normal"))


# What draws nothing


def zeros_2x2(dtype="float32"):
    return tf.Variable(tf.zeros((2, 2), dtype))


@pytest.mark.parametrize("scheme", [*CONSTANTS, *STRUCTURES])
@pytest.mark.parametrize(
    "make",
    [
        lambda scheme: init((2, 2), scheme),
        lambda scheme: init_(zeros_2x2(), scheme),
        lambda scheme: Initializer(scheme)((2, 2)),
        lambda scheme: tf.function(lambda: init((2, 2), scheme))(),
        lambda scheme: tf.function(lambda: Initializer(scheme)((2, 2)))(),
    ],
)
def test_what_draws_nothing_takes_no_draw(scheme, make):
    make(scheme)
    tf.random.set_seed(5)
    expected = init(8, "normal").numpy()
    tf.random.set_seed(5)
    assert same(np.array(make(scheme).numpy()), filled((2, 2), scheme))
    np.testing.assert_array_equal(init(8, "normal").numpy(), expected)


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("scheme", ["zeros", "ones"])
def test_zeros_and_ones_are_what_tensorflow_makes_in_integers_and_bool(dtype, scheme):
    theirs = getattr(tf, f"{scheme}_initializer")()((3, 2), dtype)
    ours = [
        init((3, 2), scheme, dtype=dtype),
        Initializer(scheme)((3, 2), dtype),
        tf.function(lambda: init((3, 2), scheme, dtype=dtype))(),
        init_(tf.Variable(tf.cast(tf.fill((3, 2), 9), dtype)), scheme).value(),
    ]
    for tensor in ours:
        assert tensor.dtype == theirs.dtype
        np.testing.assert_array_equal(tensor.numpy(), theirs.numpy())


def test_whole_numbers_fill_integers_and_their_padding_is_0():
    expected = [[-7, -7], [0, 0], [-7, -7]]
    arguments = {"scheme": "constant(-7)", "padding_idx": 1}
    assert init((3, 2), dtype="int8", **arguments).numpy().tolist() == expected
    assert tf.function(lambda: init((3, 2), dtype="int8", **arguments))().numpy().tolist() == expected
    variable = init_(tf.Variable(tf.fill((2, 2), 9)), shape=(3, 2), offset=(1, 0), **arguments)
    assert variable.numpy().tolist() == expected[1:]
    stacked = init((2, 3, 2), "ones", dtype="int32", padding_idx=1, batch_axis=0)
    assert stacked.numpy().tolist() == [[[1, 1], [0, 0], [1, 1]]] * 2
    part = Initializer(**arguments)((3, 2), "int64", partition_shape=(1, 2), partition_offset=(2, 0))
    assert part.numpy().tolist() == expected[2:]


@pytest.mark.parametrize(
    ("scheme", "dtype"), [("constant(0.5)", "int32"), ("constant(300)", "int8"), ("constant(2)", "bool")]
)
def test_a_constant_that_its_dtype_does_not_hold_is_refused_before_anything_is_written(scheme, dtype):
    with pytest.raises(ValueError, match=rf"dtype {dtype} does not hold .* as it is"):
        init((2,), scheme, dtype=dtype)
    variable = tf.Variable(tf.cast([1, 1], dtype))
    with pytest.raises(ValueError, match=rf"variable {dtype} does not hold .* as it is"):
        init_(variable, scheme)
    assert variable.numpy().tolist() == [1, 1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2", "complex64", "int16"])
def test_constants_are_operations_that_xla_and_saved_models_take(dtype, tmp_path):
    module = tf.Module()
    scheme = "constant(3)"
    module.make = tf.function(lambda: init((2, 3), scheme, dtype=dtype), input_signature=[])
    tf.saved_model.save(module, str(tmp_path))
    made = tf.saved_model.load(str(tmp_path)).make()
    assert same(np.array(made.numpy()), np.full((2, 3), 3).astype(made.dtype.as_numpy_dtype))
    if not dtype.startswith("float8"):
        compiled = tf.function(lambda: init((2, 3), scheme, dtype=dtype), jit_compile=True)
        assert same(np.array(compiled().numpy()), np.array(made.numpy()))


# First steps


def test_the_adapter_shows_its_public_names_alone():
    assert dir(adapters.tensorflow) == ["Initializer", "init", "init_"]


def test_a_generator_in_the_place_of_a_seed_is_refused_with_what_to_do():
    generator = tf.random.Generator.from_seed(1)
    seed = int(generator.uniform_full_int((), tf.uint64))
    assert 0 <= seed < 1 << 64
    for call in (
        lambda: init((2,), "normal", seed=generator),
        lambda: init_(zeros_2x2(), "normal", seed=generator),
        lambda: Initializer("normal", seed=generator),
    ):
        with pytest.raises(TypeError, match=r"seed must be an int.*: draw one of it, as in int\(generator"):
            call()


@pytest.mark.parametrize("dtype", ["bf16", 3.5, "string"])
def test_an_unknown_dtype_is_named_with_those_there_are(dtype):
    with pytest.raises(TypeError, match=r"dtype must be float32, float64, float16, bfloat16, .*, got"):
        init((2,), "normal", seed=7, dtype=dtype)


def test_parts_of_integers_have_the_row_of_padding_that_is_theirs():
    initializer = Initializer("ones", padding_idx=2)
    parts = [
        initializer((10, 2), "int32", partition_shape=(size, 2), partition_offset=(first, 0)).numpy()
        for first, size in [(0, 2), (2, 2), (4, 6)]
    ]
    assert np.concatenate(parts)[:, 0].tolist() == [1, 1, 0, *[1] * 7]
