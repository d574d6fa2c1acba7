"""Every scheme in a tensor of a given size, and the ways in which the verbs meet it."""

from math import isqrt

import numpy as np

from winit_fast import fill, fill_keys, fill_rows, schemes

TORCH = {"in_axis": 1, "out_axis": 0}

# What its name alone does not say.
TEXTS = {
    "constant": "constant(0.5)",
    "residual_normal": "residual_normal(3)",
    "fixup": "fixup(3)",
    "t_fixup": "t_fixup(3)",
    "deepnet": "deepnet(3)",
    "mup": "mup(17)",
    "sparse": "sparse(0.5)",
    "array": "array([0.5, 1, 2, 3])",
}

#: They need buffers of their own, of a fixed size: 24 MiB of vectors and as much of panels (orthogonal.py).
WITH_BUFFERS = ("orthogonal", "delta_orthogonal", "convolution_orthogonal")
#: Minutes of arithmetic for each GiB, or hours.
ARITHMETIC = ["convolution_orthogonal", "orthogonal: square"]


def tensors(values):
    """The text, the shape and the axes of each scheme and variant, in a tensor of about so many values."""
    side = isqrt(values)
    many = ", ".join(map(str, range(256)))
    cases = {entry.name: (TEXTS.get(entry.name, entry.name), (values // 256, 256), {}) for entry in schemes()}
    return cases | {
        "normal: two rows": ("normal", (2, values // 2), {}),
        "array": (TEXTS["array"], (values // 4, 4), {}),
        "array: one value": ("array([0.5])", (values // 256, 256), {}),
        "array: 64 rows": (f"array([{', '.join([f'[{many}]'] * 64)}])", (values // 256, 256), {}),
        "array: many values": (f"array([{', '.join([f'[{many}]'] * 256)}])", (values >> 16, 256, 256), {}),
        "bilinear": ("bilinear", (side, side, 1, 1), {}),
        "bilinear: small kernels": ("bilinear", (4, 4, values // 1024, 64), {}),
        "bilinear: small kernels of torch": ("bilinear", (values // 1024, 64, 4, 4), TORCH),
        "lstm_bias": ("lstm_bias", (values // 4 * 4,), {}),
        "lstm_bias: few units": ("lstm_bias", (values // 256, 256), {}),
        "identity": ("identity", (side, side), {}),
        "identity: tall": ("identity", (values // 16, 16), {}),
        "identity: stack": ("identity", (values // 64, 8, 8), {"batch_axis": 0}),
        "dirac": ("dirac", (3, 3, side // 3, side // 3), {}),
        "dirac: groups": (f"dirac(groups={values // 3})", (3, 1, values // 3), {}),
        "dirac: stack": ("dirac", (values // 768, 3, 16, 16), {"batch_axis": 0}),
        "delta_orthogonal": ("delta_orthogonal", (values >> 12, 64, 64), {}),
        "delta_orthogonal: small": ("delta_orthogonal", (values // 4, 2, 2), {}),
        "convolution_orthogonal": ("convolution_orthogonal", (9, values // (9 << 12), 1 << 12), {}),
        "sparse: one unit": ("sparse(0.5)", (1, values), {}),
        "sparse: all of it": ("sparse(1)", (values // 256, 256), {}),
        "orthogonal": ("orthogonal", (values // 64, 64), {}),
        "orthogonal: wide": ("orthogonal", (64, values // 64), {}),
        "orthogonal: square": ("orthogonal", (side, side), {}),
    }


KINDS = [
    "plain", "transposed", "strided", "region", "padding", "matrices", "rows", "repeated", "repeated padding",
    "many rows", "keys",
]  # fmt: skip


def prepared(kind, case, memory):
    """A function that fills the beginning of `memory`, along one axis; None where the scheme is not for it."""
    text, shape, axes = case
    count = np.prod(shape)
    options = {"seed": 1, "name": "large", **axes}
    if kind == "transposed":
        out = memory[:count].reshape(shape[::-1]).T
    elif kind == "strided":
        out = memory[: 2 * count].reshape(*shape[:-1], 2 * shape[-1])[..., ::-2]
    else:
        out = memory[:count].reshape(shape)
    if kind == "many rows":  # of a tensor that has few
        rows = np.arange(shape[0]) % 64
        return lambda: fill_rows(out, rows, text, shape=(64, *shape[1:]), **options)
    if kind in ("rows", "repeated", "repeated padding"):
        padding_idx = (shape[0] - 1) // 2 if kind == "repeated padding" else None
        rows = np.arange(shape[0])[::-1].copy() if kind == "rows" else np.full(shape[0], (shape[0] - 1) // 2)
        return lambda: fill_rows(out, rows, text, shape=shape, padding_idx=padding_idx, **options)
    if kind == "keys":
        keys = np.arange(shape[0])
        return lambda: fill_keys(out, keys, text, shape=shape, seed=1, name="large", padding_key=3)
    if kind == "region":
        options |= {"shape": (2 * shape[0], *shape[1:]), "offset": (shape[0] // 2, *(0,) * (len(shape) - 1))}
    if kind == "padding":
        options |= {"padding_idx": 0}
    if kind == "matrices":
        options |= {"matrices": (2, len(shape) - 1)}
    return lambda: fill(out, text, **options)
