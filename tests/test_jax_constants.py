"""adapters.jax: schemes that draw nothing take any key, become plain operations, and fill integers too."""

import copy
import pickle

import numpy as np
import pytest
from arrays import DTYPES, NARROW, same

import winit_fast
from winit_fast import adapters

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

pytestmark = pytest.mark.frameworks

init, initializer = adapters.jax.init, adapters.jax.initializer
CONSTANTS = ["zeros", "ones", "constant(-0.75)", "normal(std=0)", "uniform(2, 2)"]
STRUCTURES = ["identity", "dirac", "array([[[1, 2], [3, 4]]])", "bilinear"]
WHOLE = ["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"]
OTHER = ["int4", "uint4", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz"]


def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(np.empty(shape, DTYPES.get(dtype, dtype)), scheme, **arguments)


def keys():
    one = jax.random.key(7)
    return [0, None, "x", one, jax.random.PRNGKey(7), jax.random.split(one, 3), jnp.zeros((2, 2)), object()]


@pytest.mark.parametrize("scheme", [*CONSTANTS, *STRUCTURES])
def test_schemes_that_draw_nothing_take_any_key_eagerly_and_inside_of_programs(scheme):
    make, shape = initializer(scheme), (2, 2) if scheme == "identity" else (3, 2, 2)
    expected = filled(shape, scheme)
    for key in keys():
        assert same(np.asarray(make(key, shape)), expected)
        assert same(np.asarray(init(shape, scheme, key=key)), expected)
        assert same(np.asarray(jax.jit(lambda key=key: make(key, shape))()), expected)


def test_schemes_that_draw_still_need_one_key():
    for key in (0, jax.random.split(jax.random.key(7), 3), None):
        with pytest.raises((TypeError, ValueError), match="key must be"):
            initializer("normal")(key, (2, 2))


@pytest.mark.parametrize("scheme", [*CONSTANTS, "identity"])
def test_what_draws_nothing_is_one_concrete_array_under_vmap(scheme):
    made = []

    def make(key):
        made.append(initializer(scheme)(key, (2, 2)))
        return made[-1]

    arrays = jax.vmap(make)(jax.random.split(jax.random.key(7), 3))
    assert not isinstance(made[0], jax.core.Tracer)
    assert same(np.asarray(arrays), np.stack([filled((2, 2), scheme)] * 3))


@pytest.mark.parametrize("arguments", [{}, {"padding_idx": 1}])
@pytest.mark.parametrize("scheme", CONSTANTS)
def test_programs_of_constants_can_be_exported(scheme, arguments):
    export = pytest.importorskip("jax.export")
    pytest.importorskip("flatbuffers")  # which older JAX does not bring
    program = jax.jit(lambda key: initializer(scheme, **arguments)(key, (4, 3)))
    written = export.export(program)(jax.random.PRNGKey(7)).serialize()
    array = export.deserialize(written).call(jax.random.PRNGKey(7))
    assert same(np.asarray(array), filled((4, 3), scheme, **arguments))


@pytest.mark.parametrize("dtype", ["float32", *NARROW, "complex64"])
@pytest.mark.parametrize("scheme", CONSTANTS)
@pytest.mark.parametrize("padding_idx", [None, 0, -1])
def test_constants_have_the_bits_of_fill_in_every_dtype(dtype, scheme, padding_idx):
    expected = filled((4, 3), scheme, dtype, padding_idx=padding_idx)
    assert same(np.asarray(init((4, 3), scheme, dtype=dtype, padding_idx=padding_idx)), expected)
    traced = jax.jit(lambda: init((4, 3), scheme, dtype=dtype, padding_idx=padding_idx))()
    assert same(np.asarray(traced), expected)


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-30, 3.0000001])
def test_a_constant_is_rounded_once(value):
    scheme = winit_fast.scheme("constant", value=value)
    for dtype in ("float32", "bfloat16", "float16", "complex64"):
        assert same(np.asarray(init((2,), scheme, dtype=dtype)), filled((2,), scheme, dtype))


@pytest.mark.parametrize("dtype", [*WHOLE, *OTHER])
def test_zeros_and_ones_are_what_jax_makes_in_dtypes_that_nothing_else_fills(dtype):
    for scheme, theirs in ("zeros", jnp.zeros), ("ones", jnp.ones):
        array = initializer(scheme)(None, (2, 3), dtype)
        assert array.dtype == theirs((2, 3), dtype).dtype
        np.testing.assert_array_equal(np.asarray(array, float), np.asarray(theirs((2, 3), dtype), float))


@pytest.mark.parametrize("dtype", [int, bool])
def test_pythons_integers_are_as_wide_as_those_of_jax(dtype):
    assert initializer("ones")(None, (2,), dtype).dtype == jnp.zeros(2, dtype).dtype


def test_rows_of_padding_count_along_the_first_axis_that_does_not_stack():
    expected = filled((2, 3, 4), "ones", padding_idx=-1, batch_axis=0)
    assert not expected[:, 2].any()
    for make in init, jax.jit(init, static_argnums=(0, 1), static_argnames=("padding_idx", "batch_axis", "dtype")):
        assert same(np.asarray(make((2, 3, 4), "ones", padding_idx=-1, batch_axis=0)), expected)
        assert make((2, 3, 4), "ones", padding_idx=-1, batch_axis=0, dtype="int32").tolist() == expected.tolist()


def test_whole_numbers_fill_integers_and_their_padding_is_0():
    assert init((3, 2), "constant(-7)", dtype="int8", padding_idx=1).tolist() == [[-7, -7], [0, 0], [-7, -7]]
    assert init((2,), "constant(16777217)", dtype="int32").tolist() == [16777217] * 2


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    [
        ("constant(0.5)", "int32"), ("constant(300)", "int8"), ("constant(-1)", "uint8"), ("constant(2)", "bool"),
        ("constant(3e9)", "int32"), ("constant(1000)", "float8_e4m3b11fnuz"),
    ],
)  # fmt: skip
def test_a_constant_that_its_dtype_does_not_hold_is_refused(scheme, dtype):
    with pytest.raises(ValueError, match=rf"dtype {dtype} does not hold .* as it is"):
        init((2,), scheme, dtype=dtype)


@pytest.mark.parametrize("scheme", ["normal", "he_normal", "identity", "orthogonal"])
def test_other_schemes_refuse_integers(scheme):
    with pytest.raises(TypeError, match=r"dtype must be float32, .*, got int32: other dtypes are for constants alone"):
        init((2, 2), scheme, dtype="int32", seed=0)


def test_flax_takes_a_stream_of_keys_for_a_scheme_that_draws_nothing():
    nnx = pytest.importorskip("flax.nnx")
    stream = nnx.Rngs(0).params
    assert initializer("ones")(stream, (3,)).tolist() == [1, 1, 1]
    layer = nnx.WeightNorm(nnx.Linear(6, 4, rngs=nnx.Rngs(0)), scale_init=initializer("ones"), rngs=nnx.Rngs(0))
    assert layer(jnp.ones((2, 6))).shape == (2, 4)


def test_a_shape_may_be_an_array():
    make = initializer("normal")
    expected = make(jax.random.key(7), (3, 4))
    for shape in (np.array([3, 4]), jnp.array([3, 4]), [np.int64(3), 4]):
        assert same(np.asarray(make(jax.random.key(7), shape)), np.asarray(expected))
        assert same(np.asarray(init(shape, "normal", seed=7)), np.asarray(expected))
    assert init(np.array(3), "normal", seed=7).shape == init(np.int64(3), "normal", seed=7).shape == (3,)


def test_the_adapter_shows_its_public_names_alone():
    assert dir(adapters.jax) == ["Initializer", "init", "initializer"]


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "torch.float16", 3.5, "O", "U3", "S2", "V3", "datetime64[s]"])
def test_an_unknown_dtype_is_named_with_those_there_are(dtype):
    for scheme in "normal", "ones":
        with pytest.raises(TypeError, match=r"dtype must be float32, float64, float16, bfloat16, .*, got"):
            init((2,), scheme, seed=7, dtype=dtype)


@pytest.mark.parametrize("value", [2**53, 2**53 + 1, -(2**53) - 1])
def test_a_whole_number_beyond_what_a_scheme_holds_exactly_is_refused(value):
    enable = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with enable(True):
        with pytest.raises(ValueError, match=r"dtype int64 does not hold .* as it is"):
            init((2,), f"constant({value})", dtype="int64")
        largest = 2**53 - 1
        assert init((2,), f"constant({largest})", dtype="int64").tolist() == [largest] * 2


def test_an_initializer_that_an_older_version_pickled_makes_the_same():
    one = initializer("he_normal", name="x")
    old = copy.copy(one)
    del old.__dict__["matrices"]
    again = pickle.loads(pickle.dumps(old))
    key = jax.random.key(7)
    assert again == one
    assert same(np.asarray(again(key, (4, 3))), np.asarray(one(key, (4, 3))))
