"""One logical tensor through every framework: the same bits, for every scheme and every type that each can hold.

Keras has one backend a process, so that each framework answers with fingerprints from a process of its own.
"""

import json
import textwrap
from functools import cache
from hashlib import blake2b

import numpy as np
import pytest
from arrays import DTYPES
from processes import printed
from test_catalogue import COMPLEX, EXAMPLES, IN_COMPLEX, SHAPES

import winit_fast

pytestmark = pytest.mark.frameworks

CASES = [[name, dtype] for name in EXAMPLES for dtype in [*DTYPES, *(COMPLEX if name in IN_COMPLEX else ())]]

# How each makes a tensor, and its bytes. PyTorch's own layout is another, so the axes are said there.
MAKE = {
    "numpy": """
        from winit_fast import adapters
        def octets(scheme, shape, dtype):
            return adapters.numpy.init(shape, scheme, dtype=dtype, seed=7, name="kernel")
    """,
    "torch": """
        import torch
        from winit_fast import adapters
        def octets(scheme, shape, dtype):
            axes = {"in_axis": -2, "out_axis": -1}
            made = adapters.torch.init(shape, scheme, dtype=getattr(torch, dtype), seed=7, name="kernel", **axes)
            return (torch.view_as_real(made) if made.is_complex() else made).view(torch.uint8).numpy()
    """,
    "tensorflow": """
        import tensorflow as tf
        from winit_fast import adapters
        def octets(scheme, shape, dtype):
            return adapters.tensorflow.init(shape, scheme, dtype=dtype, seed=7, name="kernel").numpy()
    """,
    "jax": """
        import jax, numpy as np
        from winit_fast import adapters
        jax.config.update("jax_enable_x64", True)
        def octets(scheme, shape, dtype):
            return np.asarray(adapters.jax.init(shape, scheme, dtype=dtype, seed=7, name="kernel"))
    """,
    **{
        f"keras-{backend}": f"""
        import os
        os.environ["KERAS_BACKEND"] = {backend!r}
        import keras, numpy as np
        from winit_fast import adapters
        if {backend!r} == "jax":
            import jax
            jax.config.update("jax_enable_x64", True)
        def octets(scheme, shape, dtype):
            made = adapters.keras.Initializer(scheme, seed=7, name="kernel")(shape, dtype=dtype)
            if {backend!r} == "torch":
                import torch
                return made.view(torch.uint8).numpy()
            return np.asarray(made)
    """
        for backend in ("tensorflow", "jax", "torch")
    },
}
# Keras has no complex types.
CANNOT_HOLD = {framework: set(COMPLEX) if framework.startswith("keras") else set() for framework in MAKE}
PACKAGES = {"keras-tensorflow": "tensorflow", "keras-jax": "jax", "keras-torch": "torch"}


@cache
def fingerprints(framework):
    """What a framework holds, by scheme and type."""
    cases = [case for case in CASES if case[1] not in CANNOT_HOLD[framework]]
    return json.loads(
        printed(
            textwrap.dedent(MAKE[framework])
            + f"""
import json
from hashlib import blake2b
examples, shapes = {EXAMPLES!r}, {SHAPES!r}
found = {{}}
for name, dtype in {cases!r}:
    found[name + " " + dtype] = blake2b(octets(examples[name], shapes[name], dtype).tobytes()).hexdigest()
print(json.dumps(found))
"""
        ).splitlines()[-1]
    )


@pytest.mark.parametrize("framework", MAKE)
def test_every_framework_holds_the_bits_of_fill(framework):
    pytest.importorskip(PACKAGES.get(framework, framework))
    found = fingerprints(framework)
    expected = {}
    for name, dtype in CASES:
        if dtype not in CANNOT_HOLD[framework]:
            out = np.empty(SHAPES[name], DTYPES.get(dtype, dtype))
            winit_fast.fill(out, EXAMPLES[name], seed=7, name="kernel")
            expected[f"{name} {dtype}"] = blake2b(out.tobytes()).hexdigest()
    different = [case for case in expected if found[case] != expected[case]]
    assert different == []
    assert list(found) == list(expected)
    assert len(set(found.values())) > len(found) / 2
