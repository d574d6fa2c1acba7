"""Derive the gains of ``winit_fast/gains.py`` that no paper or library gives: ``python tools/derive_gains.py``.

The rule is that of He et al. 2015, "Delving Deep into Rectifiers", for any nonlinearity f: weights wider by
1 / sqrt(E[f(z)^2]), z ~ N(0, 1), keep the second moment of a layer's inputs. For relu that is sqrt(2). The integrals
are taken in 50 digits between integers, where every kink of these functions lies, from -20 to 20; less than 1e-84 of
any of them lies beyond. Needs mpmath; nothing at run time needs this file.
"""

from collections.abc import Callable

import mpmath as mp

from winit_fast.gains import GAINS

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


def relu6(z: mp.mpf) -> mp.mpf:
    return min(max(z, mp.mpf(0)), mp.mpf(6))


def sigmoid(z: mp.mpf) -> mp.mpf:
    return 1 / (1 + mp.exp(-z))


def softplus(z: mp.mpf) -> mp.mpf:
    return mp.log1p(mp.exp(z))


def elu(z: mp.mpf) -> mp.mpf:
    return z if z > 0 else mp.expm1(z)


def selu(z: mp.mpf) -> mp.mpf:
    alpha, scale = mp.mpf("1.6732632423543772848170429916717"), mp.mpf("1.0507009873554804934193349852946")
    return scale * (z if z > 0 else alpha * mp.expm1(z))


DERIVED: dict[str, Function] = {
    "prelu": lambda z: max(z, z / 4),
    "relu6": relu6,
    "elu": elu,
    "gelu": lambda z: z * mp.erfc(-z / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda z: z * (1 + mp.tanh(mp.sqrt(2 / mp.pi) * (z + mp.mpf("0.044715") * z**3))) / 2,
    "silu": lambda z: z * sigmoid(z),
    "swish": lambda z: z * sigmoid(z),
    "hard_swish": lambda z: z * relu6(z + 3) / 6,
    "mish": lambda z: z * mp.tanh(softplus(z)),
    "softplus": softplus,
    "softsign": lambda z: z / (1 + abs(z)),
}

# Of PyTorch's table, which is kept; the rule's values stand in the documentation of calculate_gain.
KEPT: dict[str, Function] = {
    "linear": lambda z: z,
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "relu": lambda z: max(z, mp.mpf(0)),
    "leaky_relu": lambda z: max(z, z / 100),
    "selu": selu,
}


def gain(f: Function) -> mp.mpf:
    """1 / sqrt(E[f(z)^2]), z ~ N(0, 1), good for more than 30 digits."""
    moment, error = mp.quad(lambda z: f(z) ** 2 * mp.npdf(z), range(-20, 21), error=True)
    assert error < mp.mpf("1e-35"), error
    return 1 / mp.sqrt(moment)


def main() -> None:
    """Print the derived part of ``GAINS``, and how far PyTorch's gains lie from the rule."""
    for name, f in DERIVED.items():
        print(f'    "{name}": {float(gain(f))!r},')  # the nearest double
    for name, f in KEPT.items():
        exact = gain(f)
        print(f"# {name}: {GAINS[name]!r} is {float(GAINS[name] / exact - 1):+.2%} from {mp.nstr(exact, 17)}")


if __name__ == "__main__":
    main()
