"""adapters.jax: the values of `fill`, in memory of XLA's own, whole, sharded and inside of programs."""

import hashlib
import json
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from arrays import DTYPES, NARROW, same
from clocks import stretch
from processes import ON_TWO_CPUS, printed

import winit_fast
from winit_fast import adapters, many

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

from winit_fast.adapters._memory import jax as memory  # noqa: E402
from winit_fast.initializer import Initializer  # noqa: E402

pytestmark = pytest.mark.frameworks

init, initializer = adapters.jax.init, adapters.jax.initializer
KEY = jax.random.key(7)
SCHEMES = [
    "he_normal", "uniform(-0.1, 0.3)", "truncated_normal(std=0.02)", "orthogonal", "sparse(0.5)", "identity", "ones",
]  # fmt: skip

is_written_in_place = pytest.mark.skipif(memory.call is None, reason="needs jax 0.6.2")


def filled(shape, scheme, dtype="float32", **arguments):
    return winit_fast.fill(np.empty(shape, DTYPES.get(dtype, dtype)), scheme, **({"seed": 7} | arguments))


def is_same(array, expected):
    return same(np.asarray(array), expected)


def sharded(code):
    """Run code that knows a mesh of 8 devices; it must print nothing."""
    before = """
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import winit_fast
from winit_fast import adapters

init, initializer = adapters.jax.init, adapters.jax.initializer
mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))

def filled(shape, scheme, seed=7, **arguments):
    return winit_fast.fill(np.empty(shape, "float32"), scheme, seed=seed, **arguments)

def check(array, expected):
    np.testing.assert_array_equal(np.asarray(array), expected)
"""
    assert printed(before + code, XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu") == ""


# What it makes


@pytest.mark.parametrize("scheme", SCHEMES)
def test_init_has_the_bits_of_fill(scheme):
    array = init((33, 65), scheme, seed=7, name="layer.weight")
    assert isinstance(array, jax.Array)
    assert is_same(array, filled((33, 65), scheme, name="layer.weight"))


@pytest.mark.parametrize("dtype", ["float32", *NARROW, "complex64"])
@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (17, 9)])
def test_init_has_the_bits_of_fill_in_every_dtype_and_shape(dtype, shape):
    scheme = "he_normal" if len(shape) == 2 else "constant(0.5)" if dtype == "complex64" else "normal"
    array = init(shape, scheme, dtype=dtype, seed=7)
    assert array.dtype == DTYPES.get(dtype, dtype)
    assert is_same(array, filled(shape, scheme, dtype))
    assert is_same(jax.jit(lambda key: init(shape, scheme, dtype=dtype, key=key))(KEY), filled(shape, scheme, dtype))


def test_double_precision_is_there_where_jax_has_it():
    code = """
import jax, numpy as np, winit_fast
from winit_fast import adapters
for dtype in "float64", "complex128":
    expected = winit_fast.fill(np.empty((9, 5), dtype), "he_normal", seed=7)
    assert (np.asarray(adapters.jax.init((9, 5), "he_normal", dtype=dtype, seed=7)) == expected).all()
assert adapters.jax.initializer("normal")(jax.random.key(0), (3,)).dtype == "float64"
"""
    assert printed(code, JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu") == ""


def test_init_takes_an_integer_and_a_list_for_a_shape_and_is_float32_by_default():
    assert init(5, "normal", seed=7).shape == (5,)
    assert init([2, np.int64(3)], "normal", seed=7).dtype == jnp.float32


@pytest.mark.parametrize(
    "arguments",
    [
        {"in_axis": 1, "out_axis": 0},
        {"in_axis": (0, 1), "out_axis": 2},
        {"batch_axis": 0},
        {"batch_axis": (np.int64(-3),)},
        {"padding_idx": -1},
        {"padding_idx": 3, "batch_axis": 0},
        {"matrices": 4},
        {"matrices": (3, 1)},
        {"threads": 2},
    ],
)
def test_axes_padding_and_threads_are_those_of_fill(arguments):
    expected = filled((4, 6, 8), "he_normal", **arguments)
    assert is_same(init((4, 6, 8), "he_normal", seed=7, **arguments), expected)
    assert is_same(jax.jit(initializer("he_normal", **arguments), static_argnums=1)(KEY, (4, 6, 8)), expected)


def test_large_arrays_are_whole():
    assert is_same(init((1500, 1000), "normal", seed=7), filled((1500, 1000), "normal"))


# Seeds and keys


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_key_of_a_seed_is_the_seed(seed):
    expected = filled((8,), "normal", seed=seed)
    for key in jax.random.key(seed), jax.random.PRNGKey(seed), np.asarray(jax.random.PRNGKey(seed)):
        assert is_same(init(8, "normal", key=key), expected)
    assert is_same(init(8, "normal", seed=seed), expected)


def test_the_first_of_two_words_is_the_high_half():
    key = jax.random.wrap_key_data(np.array([3, 5], np.uint32))
    assert is_same(init(8, "normal", key=key), filled((8,), "normal", seed=3 << 32 | 5))
    assert is_same(init(8, "normal", seed=3 << 32 | 5), filled((8,), "normal", seed=3 << 32 | 5))


@pytest.mark.parametrize("is_jitted", [False, True])
def test_four_words_are_hashed(is_jitted):
    words = np.array([1, 2, 3, 2**32 - 1], np.uint32)
    seed = int.from_bytes(hashlib.blake2b(words.astype("<u4").tobytes(), digest_size=8).digest(), "little")
    for key in jax.random.wrap_key_data(words, impl="rbg"), jnp.asarray(words):
        make = initializer("normal")
        function = jax.jit(make, static_argnums=1) if is_jitted else make
        assert is_same(function(key, (8,)), filled((8,), "normal", seed=seed))


def test_keys_and_names_tell_parameters_apart():
    keys = jax.random.split(KEY, 2)
    arrays = [init(64, "normal", key=key, name=name) for key in keys for name in ("kernel", "bias")]
    assert len({np.asarray(array).tobytes() for array in arrays}) == 4


def test_no_seed_is_needed_where_nothing_is_drawn():
    assert is_same(init((2, 2), "ones"), np.ones((2, 2), np.float32))
    with pytest.raises(TypeError, match=r"seed must be given: 'normal' draws"):
        init(3, "normal")


# Programs


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_initializer_has_the_bits_of_fill_eagerly_and_under_jit(scheme):
    make = initializer(scheme)
    expected = filled((12, 20), scheme)
    assert is_same(make(KEY, (12, 20)), expected)
    assert is_same(make(KEY, (12, 20), jnp.float32), expected)
    assert is_same(jax.jit(make, static_argnums=(1, 2))(KEY, (12, 20), "float32"), expected)
    assert is_same(jax.jit(lambda key: 2 * make(key, (12, 20)))(KEY), 2 * expected)


def test_vmap_takes_one_key_after_another():
    keys = jax.random.split(KEY, 6).reshape(2, 3)
    words = np.asarray(jax.random.key_data(keys)).astype(object)
    make = jax.vmap(jax.vmap(lambda key: initializer("orthogonal")(key, (4, 6))))
    for arrays in make(keys), jax.jit(make)(keys):
        assert arrays.shape == (2, 3, 4, 6)
        for place in np.ndindex(2, 3):
            high, low = words[place]
            assert is_same(arrays[place], filled((4, 6), "orthogonal", seed=int(high) << 32 | int(low)))


@pytest.mark.parametrize("scheme", ["normal", "orthogonal", "uniform(-0.1, 0.3)"])
@pytest.mark.parametrize("sizes", [(3, 5), (40, 50), (0, 5), ()])
def test_what_vmap_makes_of_many_keys_is_filled_as_one_piece_of_work(monkeypatch, scheme, sizes):
    if scheme == "orthogonal" and len(sizes) < 2:
        pytest.skip("a matrix")
    counts, write = [], many._write_together
    monkeypatch.setattr(many, "_TOGETHER", 4)
    monkeypatch.setattr(many, "_write_together", lambda parts, *rest: (counts.append(len(parts)), write(parts, *rest)))
    make = initializer(scheme, name="w", padding_idx=1 if len(sizes) > 1 and sizes[0] > 1 else None, threads=2)
    keys = jax.random.split(KEY, 10)
    arrays = jax.jit(jax.vmap(lambda key: make(key, sizes)))(keys)
    assert counts == ([4, 4, 2] if arrays.size else [])
    for key, array in zip(keys, arrays, strict=True):
        assert is_same(array, np.asarray(make(key, sizes)))


def test_of_many_regions_each_begins_where_its_origin_says():
    seeds, rows = [3, 4, 5, 6], [0, 0, 7, 0]
    out = np.empty((2, 2, 3, 5), "float32")
    key = np.array([[0, seed] for seed in seeds], np.uint32).reshape(2, 2, 2)
    origin = np.array([memory._encode_origin(9, (row, 0)) for row in rows]).reshape(2, 2, -1)
    text = json.dumps([Initializer("normal", name=0).get_config(), {"shape": (10, 5), "threads": None}])
    memory._write(out, key, origin, text)
    for region, seed, row in zip(out.reshape(4, 3, 5), seeds, rows, strict=True):
        assert is_same(region, filled((10, 5), "normal", seed=seed, name=9)[row : row + 3])


def test_it_works_under_scan_and_beside_what_is_differentiated():
    make = initializer("normal")
    keys = jax.random.split(KEY, 3)
    _, layers = jax.lax.scan(lambda carry, key: (carry, make(key, (4,))), 0, keys)
    assert is_same(layers[2], np.asarray(make(keys[2], (4,))))
    slope = jax.jit(jax.grad(lambda scale: (scale * make(KEY, (4,))).sum()))(1.0)
    assert slope == make(KEY, (4,)).sum()


def test_a_program_is_traced_once_for_all_keys():
    traced = []

    @jax.jit
    def make(key):
        traced.append(key)
        return initializer("normal")(key, (4,))

    for key in jax.random.split(KEY, 3):
        make(key)
    assert len(traced) == 1


def test_what_is_eager_is_compiled_once_for_all_seeds_and_names():
    init((3, 7), "normal", seed=0)
    compiled = memory._make_region._cache_size()
    for seed in range(3):
        init((3, 7), "normal", seed=seed, name=f"layer{seed}")
    assert memory._make_region._cache_size() == compiled


def test_shapes_are_known_without_memory():
    shape = (1 << 15, 1 << 15, 1 << 15)
    for make in lambda: init(shape, "normal", seed=7), lambda: initializer("normal")(KEY, shape, "bfloat16"):
        assert jax.eval_shape(make).shape == shape


def test_programs_and_eager_calls_may_run_in_several_threads_at_once():
    make = jax.jit(lambda key: initializer("normal")(key, (300, 1000)) + 1)
    expected = filled((300, 1000), "normal")
    right = []

    def work():
        for _ in range(5):
            later = make(KEY)
            right.append(is_same(init((300, 1000), "normal", seed=7), expected) and is_same(later, expected + 1))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 30


def test_a_process_may_end_while_a_program_runs():
    code = """
import jax, jax.numpy as jnp
from winit_fast import adapters
def program(key):
    square = jax.random.normal(key, (600, 600))
    for _ in range(3):
        square = square @ square * 0.01
    return adapters.jax.initializer("normal")(key, (2000, 1000)) + square[0, 0]
jax.jit(program)(jax.random.key(0))
"""
    assert printed(code, JAX_PLATFORMS="cpu") == ""


def test_the_way_of_other_devices_has_the_same_bits(monkeypatch):
    monkeypatch.setattr(memory, "call", None)
    keys = jax.random.split(KEY, 2)
    assert is_same(init((5, 11), "orthogonal", seed=7, dtype="bfloat16"), filled((5, 11), "orthogonal", "bfloat16"))
    arrays = jax.jit(jax.vmap(lambda key: initializer("normal")(key, (5, 13))))(keys)
    assert is_same(arrays[1], np.asarray(init((5, 13), "normal", key=keys[1])))


# Memory


@is_written_in_place
def test_the_memory_can_be_donated():
    double = jax.jit(lambda array: array * 2, donate_argnums=0)
    for array in init((64, 64), "normal", seed=7), jax.jit(initializer("normal"), static_argnums=1)(KEY, (64, 64)):
        address = array.unsafe_buffer_pointer()
        doubled = double(array)
        assert array.is_deleted()
        assert doubled.unsafe_buffer_pointer() == address
        assert is_same(doubled, 2 * filled((64, 64), "normal"))


@is_written_in_place
def test_nothing_is_held_beside_the_array():
    code = """
from pathlib import Path
import jax
from winit_fast import adapters
def held(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) >> 10
make = adapters.jax.initializer("normal")
if is_jitted:
    make = jax.jit(make, static_argnums=1)
make(jax.random.key(0), (8, 1024)).block_until_ready()
before = held("VmRSS")
array = make(jax.random.key(0), (1 << 16, 1024)).block_until_ready()
print(held("VmHWM") - before - 256)
"""
    if not os.path.exists("/proc/self/status"):
        pytest.skip("Linux alone says what a process held")
    for is_jitted in False, True:
        assert int(printed(f"is_jitted = {is_jitted}\n" + ON_TWO_CPUS + code, JAX_PLATFORMS="cpu")) <= 64


@is_written_in_place
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX signals")
def test_an_interrupt_passes_through():
    init((4000, 4000), "zeros")
    waits = []

    def interrupt():
        waits.append(-time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # The machine may become busy just then, but not each time.
        while not waits or (waits[-1] > 2.5 and len(waits) < 3):
            timer = threading.Timer(0.5, interrupt)
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                init((8000, 8000), "orthogonal", seed=7, threads=2)
            waits[-1] = (waits[-1] + time.monotonic()) / stretch()
            timer.join()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert waits[-1] < 2.5
    assert is_same(init(8, "normal", seed=7), filled((8,), "normal"))


# Shards


def test_shards_have_the_bits_of_the_whole_and_stand_where_they_belong():
    sharded("""
for scheme in "normal", "orthogonal", "sparse(0.5)":
    expected = filled((16, 24), scheme, name="table")
    for spec in P(), P("x"), P("y", "x"), P(("x", "y")), P(None, "y"):
        sharding = NamedSharding(mesh, spec)
        array = init((16, 24), scheme, seed=7, name="table", sharding=sharding)
        assert array.sharding == sharding
        check(array, expected)
        for shard in array.addressable_shards:
            check(shard.data, expected[shard.index])
one = init((5, 3), "normal", seed=7, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[3]))
assert one.devices() == {jax.devices()[3]}
check(one, filled((5, 3), "normal"))
check(init((), "normal", seed=7, sharding=NamedSharding(mesh, P())), filled((), "normal"))
check(init((0, 8), "normal", seed=7, sharding=NamedSharding(mesh, P(None, "x"))), filled((0, 8), "normal"))
try:
    init((7,), "normal", seed=7, sharding=NamedSharding(mesh, P("x")))
except ValueError as error:
    assert "7" in str(error)
else:
    raise AssertionError
""")


def test_equal_shards_are_written_once_and_all_can_be_donated():
    sharded("""
from winit_fast.adapters._memory import jax as memory
written, write = [], memory._write
memory._write = lambda out, *arguments: (written.append(out.shape), write(out, *arguments))
array = init((16, 24), "normal", seed=7, sharding=NamedSharding(mesh, P("y")))
assert written == [(4, 24)] * 4, written
addresses = [shard.data.unsafe_buffer_pointer() for shard in array.addressable_shards]
assert len(set(addresses)) == 8
doubled = jax.jit(lambda array: array * 2, donate_argnums=0)(array)
if memory.call:
    assert [shard.data.unsafe_buffer_pointer() for shard in doubled.addressable_shards] == addresses
check(doubled, 2 * filled((16, 24), "normal"))
""")


def test_shards_inside_of_programs_have_the_bits_of_the_whole():
    sharded("""
key, make = jax.random.key(7), initializer("orthogonal")
expected = filled((16, 24), "orthogonal")
for spec in P(), P("x"), P("y", "x"), P(("y", "x")), P(None, "y"):
    sharding = NamedSharding(mesh, spec)
    programs = [
        jax.jit(lambda key: make(key, (16, 24), None, sharding)),
        jax.jit(lambda key: make(key, (16, 24)), out_shardings=sharding),
        jax.jit(lambda key: jax.lax.with_sharding_constraint(make(key, (16, 24)), sharding)),
    ]
    for program in programs:
        array = program(key)
        assert array.sharding.is_equivalent_to(sharding, 2), (array.sharding, sharding)
        check(array, expected)
shape = jax.eval_shape(lambda: init((1 << 20, 1 << 20), "normal", seed=7, sharding=NamedSharding(mesh, P("x"))))
assert shape.shape == (1 << 20, 1 << 20)
""")


def test_each_device_writes_its_own_shard_of_an_out_sharding():
    sharded("""
from winit_fast.adapters._memory import jax as memory
written, write = [], memory._write
memory._write = lambda out, *arguments: (written.append(out.shape), write(out, *arguments))
make = initializer("normal")
jax.jit(lambda key: make(key, (16, 24), None, NamedSharding(mesh, P("x", "y"))))(jax.random.key(7)).block_until_ready()
assert written == [(8, 6)] * 8, written
""")


def test_a_mesh_of_the_context_serves_a_bare_partition_spec():
    sharded("""
key, make = jax.random.key(7), initializer("normal")
expected = filled((16, 24), "normal")
for call in (lambda: make(key, (16, 24), None, P("x", "y"))), (lambda: init((8,), "normal", seed=7, sharding="x")):
    try:
        call()
    except (TypeError, ValueError) as error:
        assert "sharding must" in str(error)
    else:
        raise AssertionError
if hasattr(jax, "set_mesh"):
    for kind in jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto:
        with jax.set_mesh(jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))):
            abstract = NamedSharding(jax.sharding.get_abstract_mesh(), P("x", "y"))
            for sharding in P("x", "y"), abstract:
                for call in make, jax.jit(make, static_argnums=(1, 2, 3)):
                    array = call(key, (16, 24), jnp.float32, sharding)
                    assert array.sharding.spec == P("x", "y")
                    check(array, expected)
            check(make(key, (16, 24)), expected)
""")


def test_shard_map_and_pmap_give_every_key_its_values():
    sharded("""
if hasattr(jax, "shard_map"):
    shard_map = jax.shard_map
else:
    from jax.experimental.shard_map import shard_map
    shard_map = partial(shard_map, check_rep=False)
make = initializer("normal")
keys = jax.random.split(jax.random.key(7), 8)
words = np.asarray(jax.random.key_data(keys)).tolist()
expected = np.stack([filled((4, 6), "normal", seed=high << 32 | low) for high, low in words])
each = lambda keys: make(keys[0], (4, 6))[None]
check(jax.jit(shard_map(each, mesh=mesh, in_specs=P(("x", "y")), out_specs=P(("x", "y"))))(keys), expected)
same = shard_map(lambda key: make(key, (4, 6)), mesh=mesh, in_specs=P(), out_specs=P())
check(jax.jit(same)(jax.random.key(7)), filled((4, 6), "normal"))
check(jax.pmap(lambda key: make(key, (4, 6)))(keys), expected)
if hasattr(jax, "shard_map"):  # that the results differ is known
    try:
        jax.jit(shard_map(each, mesh=mesh, in_specs=P(("x", "y")), out_specs=P()))(keys)
    except ValueError as error:
        assert "replication" in str(error) or "varying" in str(error)
    else:
        raise AssertionError
""")


# Refusals


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "seed must be an int in", {"seed": -1}),
        (TypeError, "seed must be an int in", {"seed": 1.5}),
        (TypeError, "seed must be left out where there is a key", {"key": KEY}),
        (TypeError, "key must be a key of jax.random, .* got 7", {"seed": None, "key": 7}),
        (TypeError, "key must be a key of jax.random", {"seed": None, "key": jnp.zeros(2)}),
        (
            ValueError,
            r"key must be one key, got an array of shape \(2,\)",
            {"seed": None, "key": jax.random.split(KEY)},
        ),
        (ValueError, "he_nrmal", {"scheme": "he_nrmal"}),
        (TypeError, "scheme must be", {"scheme": 3}),
        (ValueError, "shape must not be negative", {"shape": (2, -1)}),
        (TypeError, r"shape\[0\] must be an int", {"shape": (2.5, 1)}),
        (ValueError, "in_axis", {"in_axis": 7}),
        (ValueError, "padding_idx must be in", {"padding_idx": 4}),
        (ValueError, "threads must be", {"threads": 0}),
        (TypeError, "name must be", {"name": None}),
        (TypeError, "dtype must be float32, .* got int32", {"dtype": "int32"}),
        (ValueError, "dtype float64 needs .*jax_enable_x64", {"dtype": "float64"}),
        (ValueError, "dtype complex128 needs .*jax_enable_x64", {"dtype": "complex128"}),
        (TypeError, "sharding must be a jax.sharding.Sharding", {"sharding": "x"}),
        (ValueError, "float16", {"dtype": "float16", "scheme": "normal(std=1e6)"}),
    ],
)
def test_bad_arguments_are_refused_eagerly_and_while_a_program_is_traced(error, match, arguments):
    arguments = {"shape": (4, 4), "scheme": "he_normal", "seed": 0} | arguments
    with pytest.raises(error, match=match):
        init(**arguments)
    with pytest.raises(error, match=match):
        jax.eval_shape(lambda: init(**arguments))


def test_initializers_refuse_what_no_shape_could_make_right():
    with pytest.raises(ValueError, match="he_nrmal"):
        initializer("he_nrmal")
    with pytest.raises(TypeError, match="in_axis must be an integer"):
        initializer("he_normal", in_axis="x")
    with pytest.raises(TypeError, match="name must be"):
        initializer("he_normal", name=1.5)


# Flax, Equinox


def test_initializers_are_values():
    first, again = (initializer("he_normal", in_axis=[1], out_axis=0) for _ in range(2))
    assert first == again
    assert hash(first) == hash(again)
    assert first != initializer("he_normal")
    assert pickle.loads(pickle.dumps(first)) == first
    assert isinstance(first, jax.nn.initializers.Initializer)


def test_flax_linen_takes_initializers():
    nn = pytest.importorskip("flax.linen")

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(50, 8, embedding_init=initializer("normal(std=0.02)"))(tokens)
            x = nn.Conv(6, (3,), kernel_init=initializer("orthogonal"))(x)
            return nn.Dense(4, kernel_init=initializer("he_normal"), param_dtype=jnp.bfloat16)(x)

    tokens = jnp.zeros((2, 5), int)
    eager = Model().init(KEY, tokens)
    jitted = jax.jit(Model().init)(KEY, tokens)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(np.asarray(one), np.asarray(other)), eager, jitted)
    kernel = np.asarray(eager["params"]["Conv_0"]["kernel"]).reshape(24, 6)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(6), atol=1e-5)
    assert eager["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16


def test_flax_nnx_takes_initializers():
    nnx = pytest.importorskip("flax.nnx")
    layer = nnx.Linear(6, 4, kernel_init=initializer("he_normal"), rngs=nnx.Rngs(params=KEY))
    key = nnx.Rngs(params=KEY).params()
    assert is_same(layer.kernel[...], np.asarray(init((6, 4), "he_normal", key=key)))


def test_equinox_takes_arrays():
    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.Linear(6, 4, key=KEY)
    make = initializer("he_normal", in_axis=1, out_axis=0)  # Equinox's layout is PyTorch's
    layer = eqx.tree_at(lambda layer: layer.weight, layer, make(KEY, layer.weight.shape))
    assert is_same(layer.weight, filled((4, 6), "he_normal", in_axis=1, out_axis=0))
    assert eqx.filter_jit(layer)(jnp.ones(6)).shape == (4,)


def test_the_adapter_imports_no_other_framework():
    code = """
import sys
from winit_fast import adapters
adapters.jax.init
print([name for name in ("torch", "tensorflow", "keras", "flax") if name in sys.modules])
"""
    assert printed(code) == "[]\n"


def test_a_key_in_the_place_of_a_seed_and_no_key_at_all_are_refused_in_those_words():
    for key in (jax.random.key(7), jax.random.PRNGKey(7)):
        with pytest.raises(TypeError, match=r"a key of jax\.random is given as key="):
            adapters.jax.init((3,), "normal", seed=key)
    with pytest.raises(TypeError, match=r"key must be a key of jax\.random, got None: normal draws random values"):
        adapters.jax.initializer("normal")(None, (3,))
    assert adapters.jax.initializer("ones")(None, (3,)).tolist() == [1, 1, 1]


def test_pythons_own_types_are_as_wide_as_those_of_jax():
    for dtype in (float, complex):
        assert (
            adapters.jax.initializer("he_normal")(jax.random.key(7), (4, 4), dtype).dtype == jnp.zeros(3, dtype).dtype
        )


def test_shardings_that_cannot_be_had_are_refused():
    rows = jax.sharding.NamedSharding(jax.make_mesh((1,), ("rows",)), jax.sharding.PartitionSpec(None, "rows"))
    with pytest.raises(ValueError, match=r"sharding must have no more axes than the shape \(8,\), got"):
        adapters.jax.init((8,), "normal", seed=7, sharding=rows)
    if not hasattr(jax, "shard_map"):
        pytest.skip("jax.shard_map is newer")
    he_normal, spec = adapters.jax.initializer("he_normal"), jax.sharding.PartitionSpec()

    def inside(key):
        return he_normal(key, (8, 4), out_sharding=jax.sharding.PartitionSpec("rows"))

    mapped = jax.shard_map(inside, mesh=rows.mesh, in_specs=spec, out_specs=spec, check_vma=False)
    with pytest.raises(ValueError, match=r"sharding must be left out inside of jax\.shard_map"):
        jax.jit(mapped)(jax.random.key(7))
