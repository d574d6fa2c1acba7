"""Recommendations: which scheme the papers give to the weights around an activation."""

from __future__ import annotations

from numbers import Real
from typing import Any

from winit_fast.arguments import one_of
from winit_fast.gains import GAINS, SLOPED
from winit_fast.messages import quote
from winit_fast.records import record
from winit_fast.registry import Scheme, read_scheme

__all__ = ["Recommendation", "recommend"]


@record
class Recommendation:
    """A scheme and why it is recommended, made by `recommend`.

    Attributes
    ----------
    scheme : Scheme
        What `fill` and the adapters take.
    reason : str
        Why, and which paper says so.

    Examples
    --------
    >>> import winit_fast
    >>> winit_fast.recommend("gelu").scheme
    scheme('he_normal', nonlinearity='gelu')
    """

    scheme: Scheme
    reason: str

    def __str__(self) -> str:
        return f"{self.scheme}: {self.reason}"


def recommend(activation: Any, slope: float | None = None) -> Recommendation:
    """Recommend a scheme for the weights of layers with this activation.

    Parameters
    ----------
    activation : str, callable or layer
        A nonlinearity that `calculate_gain` knows, in any spelling (``"leaky_relu"``, ``"LeakyReLU"``), or a function,
        class or layer of that name: ``torch.nn.GELU()``, ``jax.nn.silu``, ``keras.activations.relu``.
    slope : float, optional
        The negative slope of ``leaky_relu`` or ``prelu``. By default the layer's own, or 0.01 and 0.25. The others have
        none.

    Returns
    -------
    Recommendation
        `xavier_normal` for ``sigmoid``, ``tanh`` and ``softsign``, `lecun_normal` for ``selu`` and for layers without
        an activation (``linear``, ``conv``, ...), `he_normal` with the gain of the activation for the others.

    Raises
    ------
    TypeError, ValueError
        If the activation is unknown, or if the slope is not a finite number or is given where there is none.

    See Also
    --------
    calculate_gain : the gains, and where they come from.

    Examples
    --------
    >>> import winit_fast
    >>> print(winit_fast.recommend("relu"))  # doctest: +ELLIPSIS
    he_normal: He et al. 2015 (arXiv:1502.01852) derive std sqrt(2 / fan_in) for relu, ...
    >>> winit_fast.recommend("leaky_relu", slope=0.2).scheme
    scheme('he_normal', nonlinearity='leaky_relu', slope=0.2)
    >>> winit_fast.recommend("tanh").scheme
    scheme('xavier_normal')
    >>> winit_fast.recommend("rellu")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: activation 'rellu' is unknown; did you mean 'relu'? It must be one of linear, conv, ...
    """
    name, own_slope = _find_nonlinearity(activation)
    slope = own_slope if slope is None else slope
    activation = one_of(*GAINS)("activation", name)
    if slope is not None and activation not in SLOPED:
        raise ValueError(f"slope needs activation='leaky_relu' or 'prelu', got {quote(slope)} with {activation!r}")
    if activation in _XAVIER:
        return Recommendation(read_scheme("xavier_normal"), f"{_GLOROT} {_XAVIER[activation]}")
    if activation == "selu":
        return Recommendation(read_scheme("lecun_normal"), _SELU)
    if activation == "linear" or activation.startswith("conv"):
        return Recommendation(read_scheme("lecun_normal"), _LINEAR)
    if activation == "relu":
        return Recommendation(read_scheme("he_normal"), _RELU)
    if activation in SLOPED:
        given = {} if slope is None else {"slope": slope}
        return Recommendation(read_scheme("he_normal", nonlinearity=activation, **given), _SLOPE)
    drifts = _DRIFTS if activation in _DRIFTING else ""
    return Recommendation(read_scheme("he_normal", nonlinearity=activation), f"{_HE} {activation}{_DERIVED}{drifts}")


def _find_nonlinearity(activation: Any) -> tuple[str, float | None]:
    """The name of the nonlinearity in the table of gains, and the slope of a layer."""
    name = getattr(activation, "__name__", None)
    if not isinstance(name, str):
        name = activation if isinstance(activation, str) else type(activation).__name__
    bare = "linear" if _strip_name(name) == "identity" else _strip_name(name)
    known = next((known for known in GAINS if _strip_name(known) == bare), None)
    if isinstance(activation, str):
        return (activation if known is None else known), None
    if known is None and callable(activation):
        return name, None
    if known is None:
        raise TypeError(f"activation must be a str, or a function or layer that has its name, got {quote(activation)}")
    if known == "gelu" and getattr(activation, "approximate", None) in ("tanh", True):
        return "gelu_tanh", None
    own = getattr(activation, {"leaky_relu": "negative_slope", "prelu": "init"}.get(known, ""), None)
    return known, float(own) if isinstance(own, Real) else None


def _strip_name(name: str) -> str:
    return name.replace("_", "").lower()


_GLOROT = (
    "Glorot and Bengio 2010 average fan_in and fan_out, to keep the variance of signals forward and of gradients "
    "backward, for units that are nearly linear around 0."
)

_XAVIER = {
    "sigmoid": "The sigmoid, with slope 1/4 there, is no such unit: their last layer of sigmoids saturated.",
    "tanh": "The tanh has slope 1 there and needs no gain; 5/3 is PyTorch's, not theirs.",
    "softsign": "The softsign has slope 1 there and needs no gain.",
}

_SELU = (
    "Klambauer et al. 2017 (arXiv:1706.02515) prove that selu normalizes its own signals where weights have variance "
    "1 / fan_in; PyTorch's gain of 3/4 gives that up."
)

_LINEAR = (
    "LeCun et al. 1998 (Efficient BackProp) give weights std 1 / sqrt(fan_in), which keeps the variance of signals; "
    "exactly so here, where no nonlinearity changes it."
)

_RELU = (
    "He et al. 2015 (arXiv:1502.01852) derive std sqrt(2 / fan_in) for relu, which halves the second moment of what "
    "passes it."
)

_SLOPE = (
    "He et al. 2015 (arXiv:1502.01852) derive std sqrt(2 / ((1 + slope^2) fan_in)) for a rectifier with a negative "
    "slope; their prelu starts at 0.25."
)

_HE = "He et al. 2015 (arXiv:1502.01852) keep the second moment of signals through a rectifier; the gain of"

# Where the second moment q of signals goes to gain^2 E[f(sqrt(q) z)^2] from layer to layer, with a slope on logarithms
# above 1 at q = 1: mish 1.08, gelu 1.14, silu 1.17, hard_swish 1.22; of rectifiers it is 1, of elu and selu 0.89, 0.78.
_DRIFTING = ("gelu", "gelu_tanh", "silu", "swish", "hard_swish", "mish")

_DRIFTS = (
    " There the balance is unstable: signals a little off that size drift farther off in every layer. Deep plain "
    "stacks, of silu beyond some 25 layers and of gelu beyond some 50, need normalization."
)

_DERIVED = " follows from their argument, 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1)."
