"""Checks: run a model forward and a gradient back, and see whether they keep their size, on every backend of Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winit_fast import fill
from winit_fast.gains import GAINS
from winit_fast.messages import shown
from winit_fast.report import LayerStatistics
from winit_fast.report.checks import Check, CheckedLayer, Weights, after_activation, before_activation, is_norm
from winit_fast.report.measurement import with_gradients

from .. import needs

with needs("keras"):
    import keras  # type: ignore[import-untyped]

__all__ = ["check"]

_layers = keras.layers
_TRANSPOSED = (_layers.Conv2DTranspose, _layers.Conv3DTranspose, _layers.Conv1DTranspose)
_CONVOLUTIONS = (_layers.Conv1D, _layers.Conv2D, _layers.Conv3D, *_TRANSPOSED)
_NORMALIZATIONS = (
    _layers.BatchNormalization, _layers.LayerNormalization, _layers.GroupNormalization, _layers.UnitNormalization,
    *(getattr(_layers, name) for name in ("RMSNormalization",) if hasattr(_layers, name)),  # of Keras 3.9
)  # fmt: skip

# What may stand between a layer and its activation, and keeps units on their axis.
_BETWEEN = (
    *_NORMALIZATIONS, _layers.Dropout, _layers.SpatialDropout1D, _layers.SpatialDropout2D, _layers.SpatialDropout3D,
    *(getattr(_layers, f"{kind}Pooling{rank}D") for kind in ("Max", "Average") for rank in (1, 2, 3)),
)  # fmt: skip

# What Keras calls otherwise than `recommend`. Layers and operations are asked for by the lower case of their class.
_NAMES = {"hard_silu": "hard_swish", "hardsilu": "hard_swish", "leakyrelu": "leaky_relu"}


def check(model: Any, example_input: Any, *, loss: Callable[[Any], Any] | None = None) -> Check:
    """Run a model that has just been initialized, and say which layers let signals or gradients vanish or explode.

    Parameters
    ----------
    model : keras.Model
        Built, of whatever kind. It runs as in the first step of training.
    example_input : array, or tuple, list or dict of arrays
        A batch, of some tens of different inputs at best, as the model's first argument.
    loss : callable, optional
        ``loss(output)`` is the scalar whose gradient is taken back, by operations of Keras or the backend. Left out:
        the gradient with respect to the output is N(0, 1), the same in every call.

    Returns
    -------
    Check
        One entry for every use of a Dense or convolutional layer (transposed too): `layers`, `verdict`, `suggestions`,
        which have the names of variables (`Variable.path`), and `unmeasured`; ``print`` shows a table. A pre-activation
        is measured, too, where the layer applies its activation itself.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, the model is not built, no weighted layer ran, or the loss has no gradient.

    See Also
    --------
    winit_fast.report.judge : what the verdicts mean.
    winit_fast.recommend : where the suggestions come from.

    Notes
    -----
    The model is left as it was, its variables (moving averages and the state of random seeds among them) too. It runs
    twice: for the statistics, and for the gradient with respect to what every layer hands on; and once more where
    suggestions are tried. Layers are compared and suggestions made as by the check of PyTorch's models
    (`adapters.torch.check`).

    An activation is seen where it is an argument of the layer, or a layer that comes next, behind normalization,
    dropout or pooling at most. Depthwise, separable and recurrent layers, attention and `EinsumDense` are not measured.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> from winit_fast import adapters, fill
    >>> dense = lambda units, **more: keras.layers.Dense(units, kernel_initializer="winit_fast>xavier_normal", **more)
    >>> hidden = [dense(64, activation="relu") for _ in range(24)]
    >>> keras.utils.set_random_seed(7)
    >>> model = keras.Sequential([keras.Input((64,)), *hidden, dense(10)])
    >>> found = adapters.keras.check(model, fill(np.empty((128, 64), "float32"), "normal", seed=7, name="batch"))
    >>> print(found.verdict.word, "-", found.suggestions[model.layers[0].kernel.path].scheme)
    vanishes - he_normal
    >>> paths = {variable.path: variable for variable in model.weights}
    >>> for path, one in found.suggestions.items():
    ...     _ = adapters.keras.init_(paths[path], one.scheme, seed=7, name=path)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}")
    if not model.built:
        raise ValueError("model must be built: give it an Input, or call it once")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a callable of the model's output, got {type(loss).__name__}")
    if example_input is None or isinstance(example_input, str):
        raise TypeError(f"example_input must be an array or a structure of arrays, got {type(example_input).__name__}")
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, example_input)
    watch = _Watch(model)

    def run(probes: Sequence[Any] | None) -> Any:
        with watch.running(probes), keras.StatelessScope(), _generators():  # which keeps assignments to variables
            return model(inputs, training=True)

    def ends(probes: Sequence[Any] | None) -> list[Any]:
        output = run(probes)
        return _floating(output) if loss is None else [loss(output)]

    first = ends(None)
    if not watch.uses:
        raise ValueError("model must have a Dense or convolutional layer that runs, and none did")
    if not first:
        raise TypeError("loss must be given where the model has no output of floating-point numbers")
    if loss is not None and prod(getattr(first[0], "shape", (0,))) != 1:
        raise TypeError(f"loss must return a tensor of one number, got {shown(first[0])}")
    back = [_gradient(number, end, loss is not None) for number, end in enumerate(first)]
    del first
    probes = [keras.ops.zeros(use.shape, use.dtype) for use in watch.uses]
    gradients = _GRADIENTS[keras.backend.backend()](ends, probes, back)
    layers = tuple(use.with_gradient(gradient) for use, gradient in zip(watch.uses, gradients, strict=True))
    if loss is not None and not any(layer.statistics.gradient_norm > 0.0 for layer in layers):
        raise ValueError("loss must have a gradient, got one that depends on no layer")
    measured = {layer.weights.name for layer in layers}
    others = tuple(one.path for one in model.trainable_variables if len(one.shape) >= 2 and one.path not in measured)
    found = Check(layers, others, watch.is_normalized)
    if not found.factors:
        return found
    watch = _Watch(model, found.factors)
    run(None)
    return replace(found, tried=tuple(use.layer.statistics for use in watch.uses))


def _floating(output: Any) -> list[Any]:
    return [end for end in keras.tree.flatten(output) if keras.backend.is_float_dtype(_dtype(end))]


def _gradient(number: int, end: Any, is_loss: bool) -> Any:
    """With respect to an end of the model: 1, or N(0, 1)."""
    shape = tuple(end.shape)
    values = np.ones(shape) if is_loss else fill(np.empty(shape), "normal", seed=0, name=f"gradients.{number}")
    return keras.ops.convert_to_tensor(values, dtype=_dtype(end))


def _dtype(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)  # type: ignore[no-any-return]


# Gradients with respect to zeros that are added to what layers hand on


def _gradients_of_torch(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import torch

    with torch.enable_grad():
        reached = ends([probe.requires_grad_() for probe in probes])
        if not any(end.requires_grad for end in reached):
            return [None] * len(probes)
        return torch.autograd.grad(reached, probes, back, allow_unused=True)


def _gradients_of_tensorflow(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import tensorflow as tf  # type: ignore[import-untyped]

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(probes)
        reached = ends(probes)
    return tape.gradient(reached, probes, output_gradients=back)


def _gradients_of_jax(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import jax

    return jax.vjp(ends, probes)[1](back)[0]


_GRADIENTS = {"torch": _gradients_of_torch, "tensorflow": _gradients_of_tensorflow, "jax": _gradients_of_jax}


@contextmanager
def _generators() -> Iterator[None]:
    """Keep the state of PyTorch's generator, from which its dropout draws whatever seed Keras has for it."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.random.fork_rng():
        yield


# While it runs


@dataclass(eq=False, slots=True)
class _Use:
    """One use of a layer, measured at its output until its activation is met.

    It is measured behind the wrapped call that is number `call` of a run, where its output is of `shape` and `dtype`.
    """

    layer: CheckedLayer
    axis: int
    call: int = 0
    shape: tuple[int, ...] = ()
    dtype: str = ""
    has_activation: bool = False

    def measure(self, call: int, before: LayerStatistics, output: Any) -> None:
        statistics = after_activation(before, _array(output, self.axis))
        self.layer = replace(self.layer, statistics=statistics._replace(name=self.layer.name))
        self.call, self.shape, self.dtype = call, tuple(output.shape), _dtype(output)

    def with_gradient(self, gradient: Any) -> CheckedLayer:
        if gradient is None:
            return self.layer
        return replace(self.layer, statistics=with_gradients(self.layer.statistics, _array(gradient, self.axis)))


class _Watch:
    """Wraps what layers compute: in a first run it measures, in others it adds probes to what they hand on.

    With factors, weights with these paths are taken to be wider by them.
    """

    def __init__(self, model: Any, factors: Mapping[str, float] = MappingProxyType({})) -> None:
        layers = [model, *model._flatten_layers(include_self=False)]
        parts = [part for layer in layers for part in (layer, *getattr(layer, "operations", ()))]
        self.parts = list({id(part): part for part in parts if part is not model}.values())
        self.uses: list[_Use] = []
        self._factors = factors
        self._normalized_after: set[int] = set()
        self._probes: dict[int, Any] | None = None
        self._calls = 0
        self._counts: dict[int, int] = {}
        self._sources: dict[int, tuple[Any, _Use]] = {}  # by the identity of tensors, which are held so that it lasts

    @property
    def is_normalized(self) -> bool:
        """Whether signals were normalized in two places or more between the first use and the last."""
        return sum(0 < number < len(self.uses) for number in self._normalized_after) >= 2

    @contextmanager
    def running(self, probes: Sequence[Any] | None) -> Iterator[None]:
        self._calls = 0
        if probes is not None:
            self._probes = {use.call: probe for use, probe in zip(self.uses, probes, strict=True)}
        with ExitStack() as wrapped:
            for part in self.parts:
                see = self._see(part)
                if see is not None:
                    wrapped.enter_context(_in_place_of(part, "call", partial(self._call, part, part.call, see)))
            yield
        self._sources.clear()

    def _see(self, part: Any) -> Callable[..., Any] | None:
        if isinstance(part, (_layers.Dense, *_CONVOLUTIONS)):
            return self._see_layer
        if isinstance(part, _BETWEEN) or is_norm(type(part).__name__):
            return self._see_between
        return self._see_activation if _activation(part)[0] in GAINS else None

    def _call(self, part: Any, call: Any, see: Any, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        if self._probes is None:
            return see(part, call, args, kwargs)
        output = call(*args, **kwargs)
        return output + self._probes[self._calls] if self._calls in self._probes else output

    def _see_layer(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        number = self._calls
        entered: list[Any] = []
        given = layer.activation
        activation, slope = _activation(given)

        def apply(inputs: Any) -> Any:
            inputs = self._wider(layer, inputs)
            entered.append(inputs)
            return inputs if given is None else given(inputs)

        with _in_place_of(layer, "activation", apply):
            output = call(*args, **kwargs)
        is_first = getattr(layer, "data_format", None) == "channels_first"
        axis = 1 - len(output.shape) if is_first else -1
        before = before_activation(_array(entered[0], axis), activation)
        use = _Use(_described(layer, self._counts, activation, slope), axis, has_activation=bool(activation))
        use.measure(number, before, output)
        self.uses.append(use)
        self._sources[id(output)] = output, use
        return output

    def _wider(self, layer: Any, output: Any) -> Any:
        """What a layer would hand on with weights that are wider by their factor, and the same bias."""
        factor = self._factors.get(getattr(layer.kernel, "path", ""))
        if factor is None:
            return output
        if layer.bias is None:
            return output * factor
        is_first = getattr(layer, "data_format", None) == "channels_first"
        bias = keras.ops.cast(layer.bias, output.dtype)
        added = keras.ops.reshape(bias, (-1, *(1,) * (len(output.shape) - 2))) if is_first else bias
        return (output - added) * factor + added

    def _see_between(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        if is_norm(type(layer).__name__):
            self._normalized_after.add(len(self.uses))
        found = self._source(args)
        if found is not None:
            self._sources[id(output)] = output, found
        return output

    def _see_activation(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        number, use = self._calls, self._source(args)
        output = call(*args, **kwargs)
        if use is not None:
            activation, slope = _activation(layer)
            use.layer, use.has_activation = replace(use.layer, activation=activation, slope=slope), True
            use.measure(number, before_activation(_array(args[0], use.axis), activation), output)
        return output

    def _source(self, args: Any) -> _Use | None:
        """The use whose output comes next, if it still looks for its activation."""
        _, use = self._sources.get(id(args[0]), (None, None)) if args else (None, None)
        return None if use is None or use.has_activation else use


def _described(layer: Any, counts: dict[int, int], activation: str, slope: float | None) -> CheckedLayer:
    number = counts[id(layer)] = counts.get(id(layer), 0) + 1
    kernel = layer.kernel
    values = keras.ops.convert_to_numpy(keras.ops.cast(kernel, "float32"))
    is_transposed = isinstance(layer, _TRANSPOSED)
    weights = Weights(
        getattr(kernel, "path", ""), tuple(kernel.shape), float(values.std(dtype=np.float64)),
        *((-1, -2) if is_transposed else (-2, -1)),
    )  # fmt: skip
    path = layer.path or layer.name
    name = path if number == 1 else f"{path} (use {number})"
    return CheckedLayer(name, type(layer).__name__, activation, weights, LayerStatistics(), slope)


def _activation(part: Any) -> tuple[str, float | None]:
    """The name of an activation (function, layer or operation), empty where it is linear, and its negative slope."""
    if isinstance(part, _layers.Activation):
        return _activation(part.activation)
    if part is None or part is keras.activations.linear:
        return "", None
    name = getattr(part, "__name__", type(part).__name__.lower())
    name = _NAMES.get(name, name)
    if name == "relu" and isinstance(part, _layers.ReLU) and part.negative_slope:
        name = "leaky_relu"
    if name == "relu" and getattr(part, "max_value", None) == 6:
        name = "relu6"
    if name == "leaky_relu":
        return name, float(getattr(part, "negative_slope", 0.2))  # of keras.activations
    if name == "prelu":
        return name, float(keras.ops.convert_to_numpy(part.alpha).mean())
    return name, None


@contextmanager
def _in_place_of(part: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute for a while, past the bookkeeping of Keras."""
    is_own, before = name in part.__dict__, part.__dict__.get(name)
    part.__dict__[name] = value
    try:
        yield
    finally:
        if is_own:
            part.__dict__[name] = before
        else:
            del part.__dict__[name]


def _array(tensor: Any, axis: int) -> NDArray[np.float64]:
    """The values with the units on the last axis."""
    values = tensor if _dtype(tensor) == "float64" else keras.ops.cast(tensor, "float32")  # NumPy has no bfloat16
    array: NDArray[np.float64] = keras.ops.convert_to_numpy(values).astype(np.float64)
    return np.moveaxis(array, axis, -1)
