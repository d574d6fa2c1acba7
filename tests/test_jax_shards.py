"""adapters.jax inside of programs on several devices: each writes its own shard, whoever asks for the sharding."""

import pytest
from test_jax_arrays import is_written_in_place, jax, sharded

pytestmark = [pytest.mark.frameworks, is_written_in_place]


def is_divided():
    pytest.importorskip("jax.experimental.buffer_callback")  # older JAX has none
    from winit_fast.adapters._memory import jax_shards

    return jax_shards.IS_DIVIDED


needs_division = pytest.mark.skipif("not is_divided()", reason="needs jax 0.7")

WRITTEN = """
from winit_fast.adapters._memory import jax as memory
written, write = [], memory._write
memory._write = lambda out, *arguments: (written.append(out.shape), write(out, *arguments))
key, make = jax.random.key(7), initializer("normal")
"""


@needs_division
def test_each_device_writes_its_own_shard_of_what_jit_and_constraints_shard():
    sharded(
        WRITTEN
        + """
for scheme in "normal", "orthogonal":
    make, expected = initializer(scheme), filled((16, 24), scheme)
    for spec in P("x"), P("y", "x"), P(("y", "x")), P(("x", "y"), None), P(None, "y"), P(None, ("x", "y")):
        sharding = NamedSharding(mesh, spec)
        shard = jax.lax.with_sharding_constraint
        for program in (
            jax.jit(partial(make, shape=(16, 24)), out_shardings=sharding),
            jax.jit(lambda key: make(key, (16, 24)) * 1, out_shardings=sharding),
            jax.jit(lambda key: shard(make(key, (16, 24)), sharding)),
        ):
            written.clear()
            check(program(key), expected)
            assert written == [sharding.shard_shape((16, 24))] * 8, (spec, written)
"""
    )


def test_what_cannot_be_divided_has_the_same_bits():
    sharded("""
make = initializer("normal")
for shape, spec in ((7, 9), P("x")), ((5,), P("y")), ((3, 8), P("y", "x")):
    sharding = NamedSharding(mesh, spec)
    array = jax.jit(lambda key: 2 * jax.lax.with_sharding_constraint(make(key, shape), sharding))(jax.random.key(7))
    check(array, 2 * filled(shape, "normal"))
replicated = NamedSharding(mesh, P())
for shape in (), (1,), (0, 8), (6, 5):
    check(jax.jit(make, static_argnums=1, out_shardings=replicated)(jax.random.key(7), shape), filled(shape, "normal"))
""")


@needs_division
def test_layers_under_vmap_and_scan_are_divided_along_any_axis():
    sharded(
        WRITTEN
        + """
keys = jax.random.split(key, 8)
words = np.asarray(jax.random.key_data(keys)).tolist()
expected = np.stack([filled((4, 24), "normal", seed=high << 32 | low) for high, low in words])
stacked = jax.vmap(lambda key: make(key, (4, 24)))
for spec in P("x"), P("y", None, "x"), P(None, "x", "y"), P(("x", "y")):
    sharding = NamedSharding(mesh, spec)
    written.clear()
    check(jax.jit(stacked, out_shardings=sharding)(keys), expected)
    assert sorted(set(written)) == [sharding.shard_shape((8, 4, 24))], (spec, written)
nested = jax.vmap(stacked)
sharding = NamedSharding(mesh, P("x", "y", None, None))
check(jax.jit(nested, out_shardings=sharding)(keys.reshape(2, 4)), expected.reshape(2, 4, 4, 24))
scanned = lambda keys: jax.lax.scan(lambda carry, key: (carry, make(key, (4, 24))), 0, keys)[1]
for spec in P(), P(None, "x", "y"), P("x"):
    check(jax.jit(scanned, out_shardings=NamedSharding(mesh, spec))(keys), expected)
"""
    )


def test_a_program_of_many_parameters_and_other_callbacks_gives_each_its_own():
    sharded("""
other = lambda x: jax.pure_callback(lambda x: np.asarray(x) + 1, jax.ShapeDtypeStruct((8,), np.float32), x)
def model(key):
    one = other(jnp.zeros(8, jnp.float32))
    first = initializer("normal", name="first")(key, (16, 8))
    two = other(one)
    again = initializer("normal", name="again")(key, (16, 8))
    last = initializer("uniform", name="last")(key, (8, 24), jnp.bfloat16)
    return {"first": first, "again": again, "last": last, "bias": initializer("ones")(key, (8,)), "two": two}
specs = {"first": P("x", "y"), "again": P("y"), "last": P(None, "x"), "bias": P("y"), "two": P()}
shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
made = jax.jit(model, out_shardings=shardings)(jax.random.key(7))
check(made["first"], filled((16, 8), "normal", name="first"))
check(made["again"], filled((16, 8), "normal", name="again"))
last = winit_fast.fill(np.empty((8, 24), jnp.bfloat16), "uniform", seed=7, name="last")
check(np.asarray(made["last"], np.float32), last.astype(np.float32))
check(made["bias"], 1)
check(made["two"], 2)

lowered = [
    jax.jit(initializer("normal"), static_argnums=1, out_shardings=NamedSharding(mesh, spec)).lower(
        jax.random.key(7), (16, 8)) for spec in (P("x"), P("y"))
]
for each in reversed(lowered):
    check(each.compile()(jax.random.key(7)), filled((16, 8), "normal"))
""")


def test_programs_of_every_kind_of_transformation_have_the_bits_of_fill():
    sharded("""
make, key, raw = initializer("normal"), jax.random.key(7), jax.random.PRNGKey(7)
sharding, expected = NamedSharding(mesh, P("x", "y")), filled((16, 24), "normal")
def loss(scale, key):
    return (scale * make(key, (16, 24), None, None)).sum()
jitted = jax.jit(lambda key: jax.checkpoint(lambda x: x * make(key, (16, 24)))(1.0), out_shardings=sharding)
check(jitted(key), expected)
slope = jax.jit(jax.grad(loss))(1.0, raw)
np.testing.assert_allclose(slope, expected.sum(), rtol=1e-3)
slopes = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(1.0, raw)
np.testing.assert_allclose(slopes[0], expected.sum(), rtol=1e-3)
with jax.disable_jit():
    check(make(key, (16, 24)), expected)
    check(jax.vmap(lambda key: make(key, (16, 24)))(key[None])[0], expected)
check(jax.jit(jax.jit(make, static_argnums=1), static_argnums=1, out_shardings=sharding)(key, (16, 24)), expected)
branches = jax.jit(lambda key, which: jax.lax.cond(which, lambda: make(key, (16, 24)), lambda: jnp.zeros((16, 24))),
                   out_shardings=sharding)
check(branches(key, True), expected)
check(branches(key, False), 0)
""")


@needs_division  # XLA of earlier versions ends the process, whoever calls back
def test_a_map_over_some_of_the_axes_of_a_mesh_has_the_bits_of_fill():
    sharded("""
make, expected = initializer("normal"), filled((16, 24), "normal")
for axes in {"x"}, {"y"}, {"x", "y"}:
    mapped = jax.shard_map(lambda key: make(key, (16, 24)), mesh=mesh, in_specs=P(), out_specs=P(), axis_names=axes,
                           check_vma=False)
    check(jax.jit(mapped)(jax.random.key(7)), expected)
    check(jax.jit(mapped, out_shardings=NamedSharding(mesh, P("x", "y")))(jax.random.key(7)), expected)
""")


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="jax.set_mesh is newer")
def test_programs_in_the_context_of_a_mesh_have_the_bits_of_fill():
    sharded("""
make, expected = initializer("normal"), filled((16, 24), "normal")
for kind in jax.sharding.AxisType.Explicit, jax.sharding.AxisType.Auto:
    with jax.set_mesh(jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))):
        check(jax.jit(make, static_argnums=1)(jax.random.key(7), (16, 24)), expected)
        for spec in P(), P("x", "y"), P(None, "x"):
            check(jax.jit(make, static_argnums=1, out_shardings=spec)(jax.random.key(7), (16, 24)), expected)
        check(jax.jit(jax.vmap(lambda key: make(key, (16, 24))))(jax.random.key(7)[None])[0], expected)
with mesh:
    rows = NamedSharding(mesh, P("x"))
    check(jax.jit(make, static_argnums=1, out_shardings=rows)(jax.random.key(7), (16, 24)), expected)
""")


@pytest.mark.skipif(not hasattr(jax, "set_mesh"), reason="jax.set_mesh is newer")
def test_shards_are_made_while_a_gradient_is_taken_or_a_function_is_mapped_with_and_without_the_context_of_a_mesh():
    sharded("""
from contextlib import nullcontext
made = []
def take(x, sharding, scheme="normal"):
    made.append(init((16, 24), scheme, seed=7, sharding=sharding, padding_idx=3))
    return 2 * x
expected = filled((16, 24), "normal", padding_idx=3)
rows = NamedSharding(mesh, P("x", "y"))
for around in (nullcontext(), jax.set_mesh(mesh)):
    with around:
        for sharding in (rows, P("x", "y")) if jax.sharding.get_mesh() == mesh else (rows,):
            for transform, x in ((jax.grad, 1.0), (jax.jacfwd, 1.0), (jax.vmap, jnp.ones(2))):
                transform(partial(take, sharding=sharding))(x)
                check(made[-1], expected)
                assert made[-1].sharding.is_equivalent_to(rows, 2)
                transform(partial(take, sharding=sharding, scheme="ones"))(x)
                check(made[-1], filled((16, 24), "ones", padding_idx=3))
""")


def test_both_partitioners_of_jax_have_the_bits_of_fill():
    sharded("""
try:
    jax.config.update("jax_use_shardy_partitioner", False)
except Exception:
    raise SystemExit
make, expected = initializer("normal"), filled((16, 24), "normal")
for spec in P(), P("x", "y"), P(None, "x"):
    program = jax.jit(make, static_argnums=1, out_shardings=NamedSharding(mesh, spec))
    check(program(jax.random.key(7), (16, 24)), expected)
""")


def test_the_number_of_a_shard_counts_in_64_bits():
    from winit_fast.adapters._memory.jax_shards import _encode_offsets

    assert _encode_offsets(3, 1 << 33).tolist() == [[0, 0], [0, 2], [0, 4]]
    assert _encode_offsets(3, (1 << 31) + 1).tolist() == [[0, 0], [(1 << 31) + 1, 0], [2, 1]]


@needs_division
def test_flax_makes_partitioned_parameters_shard_by_shard():
    pytest.importorskip("flax")
    sharded(
        WRITTEN
        + """
import flax.linen as nn
from flax import nnx
class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(24, use_bias=False, kernel_init=nn.with_partitioning(make, ("x", "y")))(x)
abstract = jax.eval_shape(Model().init, key, jnp.zeros((1, 16)))
shardings = jax.tree.map(
    lambda spec: NamedSharding(mesh, spec), nn.get_partition_spec(abstract), is_leaf=lambda x: isinstance(x, P))
written.clear()
kernel = jax.jit(Model().init, out_shardings=shardings)(key, jnp.zeros((1, 16)))["params"]["Dense_0"]["kernel"].value
kernel.block_until_ready()
assert written == [(8, 6)] * 8, written
check(kernel, np.asarray(Model().init(key, jnp.zeros((1, 16)))["params"]["Dense_0"]["kernel"].value))
"""
    )
