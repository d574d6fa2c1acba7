"""New matrices of a framework's, by its own functions and by ours: what test_frameworks.py times and memory.py weighs.

Keras has one backend a process, and each framework has threads of its own, so that each is asked in a process of its
own: ``python bench/frameworks.py LIBRARY`` reads lines of ``ours NAME ELEMENTS`` or ``theirs NAME ELEMENTS``, and
answers each when it is done. It keeps what it made until the next line, which may be ``forget``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

Make = Callable[[tuple[int, int]], Any]


class Pair(NamedTuple):
    """Two ways to make a float32 matrix of a shape."""

    ours: Make
    theirs: Make


def of_tensorflow() -> dict[str, Pair]:
    """TensorFlow's stateless functions, which are its fastest."""
    import tensorflow as tf

    from winit_fast import adapters

    init, key = adapters.tensorflow.init, (7, 0)
    return {
        "normal": Pair(
            lambda shape: init(shape, "normal", seed=7), lambda shape: tf.random.stateless_normal(shape, key)
        ),
        "truncated_normal": Pair(
            lambda shape: init(shape, "truncated_normal", seed=7),
            lambda shape: tf.random.stateless_truncated_normal(shape, key),
        ),
    }


def of_jax() -> dict[str, Pair]:
    """JAX's functions, compiled."""
    import jax

    from winit_fast import adapters

    key = jax.random.key(7)
    normal = jax.jit(jax.random.normal, static_argnums=1)
    truncated = jax.jit(partial(jax.random.truncated_normal, key, -2.0, 2.0), static_argnums=0)
    ours = {
        scheme: lambda shape, scheme=scheme: adapters.jax.init(shape, scheme, seed=7).block_until_ready()
        for scheme in ("normal", "truncated_normal")
    }
    return {
        "normal": Pair(ours["normal"], lambda shape: normal(key, shape).block_until_ready()),
        "truncated_normal": Pair(ours["truncated_normal"], lambda shape: truncated(shape).block_until_ready()),
    }


def of_jax_on_devices() -> dict[str, Pair]:
    """JAX's normal on all devices, in a program of which a sharding of rows is asked as most users do; not timed."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from winit_fast import adapters

    rows = NamedSharding(jax.make_mesh((jax.device_count(),), ("rows",)), PartitionSpec("rows", None))
    key = jax.random.key(7)

    def jitted(normal: Any) -> Make:
        program = jax.jit(normal, static_argnums=1, out_shardings=rows)
        return lambda shape: program(key, shape).block_until_ready()

    def partitioned(normal: Any) -> Make:
        from flax import linen

        kernel_init = linen.with_partitioning(normal, ("rows", None))

        def make(shape: tuple[int, int]) -> Any:
            layer = linen.Dense(shape[1], use_bias=False, kernel_init=kernel_init)
            like = jnp.zeros((1, shape[0]))
            shardings = linen.get_sharding(jax.eval_shape(layer.init, key, like), rows.mesh)
            made = jax.jit(layer.init, out_shardings=shardings)(key, like)
            return made["params"]["kernel"].value.block_until_ready()

        return make

    ours, theirs = adapters.jax.initializer("normal"), jax.nn.initializers.normal(1.0)
    return {
        "jit(out_shardings)": Pair(jitted(ours), jitted(theirs)),
        "with_partitioning": Pair(partitioned(ours), partitioned(theirs)),
    }


def of_keras(backend: str) -> dict[str, Pair]:
    """The HeNormal of Keras, which is truncated."""
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from winit_fast import adapters

    def make(initializer: Any) -> Make:
        def called(shape: tuple[int, int]) -> Any:
            made = initializer(shape)
            return made.block_until_ready() if backend == "jax" else made

        return called

    return {"HeNormal": Pair(make(adapters.keras.HeNormal(seed=7)), make(keras.initializers.HeNormal(seed=7)))}


LIBRARIES: dict[str, Callable[[], dict[str, Pair]]] = {
    "tensorflow": of_tensorflow,
    "jax": of_jax,
    **{f"keras-{backend}": partial(of_keras, backend) for backend in ("tensorflow", "jax", "torch")},
}
NAMES = {
    library: ("HeNormal",) if library.startswith("keras") else ("normal", "truncated_normal") for library in LIBRARIES
}


class Process:
    """One framework in a process of its own, which makes a matrix when it is asked to."""

    def __init__(self, library: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, library], env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.greeting = self._answer()

    def make(self, who: str, name: str, elements: int) -> None:
        """Make a matrix, by our function or theirs."""
        self._ask(f"{who} {name} {elements}")

    def forget(self) -> None:
        """Give back the memory of the last."""
        self._ask("forget")

    def end(self) -> None:
        """Let it end."""
        self.process.communicate()

    def _ask(self, line: str) -> None:
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        if self._answer() != "done":
            raise RuntimeError(f"{line} failed")

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def main() -> int:
    """Answer until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w")  # frameworks print what they like
    os.dup2(2, 1)
    try:
        pairs = LIBRARIES[sys.argv[1]]()
    except ImportError as error:
        print(f"skipped: {error}", file=answers, flush=True)
        return 0
    print("ready", file=answers, flush=True)
    made: Any = None
    for line in sys.stdin:
        made = None
        if line.strip() != "forget":
            who, name, elements = line.split()
            made = getattr(pairs[name], who)((int(elements) // 1024, 1024))
        print("done", file=answers, flush=True)
    del made
    return 0


if __name__ == "__main__":
    sys.exit(main())
