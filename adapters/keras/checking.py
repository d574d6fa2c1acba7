"""Checks: run a model forward and a gradient back, and see whether they keep their size, on every backend of Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winit_fast import fill
from winit_fast.check import (
    Check,
    Observed,
    Use,
    Weights,
    check_model,
    is_norm,
    measure_outputs,
    sample_rows,
    scale_weights,
)
from winit_fast.gains import GAINS
from winit_fast.messages import quote

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

_HOW_TO_FOLLOW = (
    "[adapters.keras.init_(w, found.suggestions[w.path].scheme, seed=0, name=w.path) for w in model.weights "
    "if w.path in found.suggestions]"
)

# What Keras calls otherwise than `recommend`. Layers and operations are asked for by the lower case of their class.
_NAMES = {"hard_silu": "hard_swish", "hardsilu": "hard_swish", "leakyrelu": "leaky_relu"}


def check(model: Any, example_input: Any, *, loss: Callable[[Any], Any] | None = None) -> Check:
    """Run a newly initialized model, and report the layers in which signals or gradients vanish or explode.

    Parameters
    ----------
    model : keras.Model
        Any kind of model, already built. It runs as in the first step of training.
    example_input : array, or tuple, list or dict of arrays
        A batch for the model's first argument, best with some tens of different inputs.
    loss : callable, optional
        ``loss(output)`` returns the scalar whose gradient is propagated back, computed by operations of Keras or the
        backend. By default, the gradient with respect to the output is N(0, 1), the same in every call.

    Returns
    -------
    Check
        It has `layers`, one entry for every use of a Dense or convolutional layer (also transposed); `verdict`;
        `suggestions`, by the paths of variables (`Variable.path`); and `unmeasured`. ``print`` shows a table. If a
        layer applies its activation itself, the values before the activation are measured, too.

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
    The model does not change, nor do its variables (including moving averages and the state of random seeds). It runs
    twice: for the statistics, and for the gradient with respect to each layer's output. It runs twice more if
    suggestions are tried. Layers are compared, and suggestions made, as in `adapters.torch.check`.

    An activation is recognized if it is an argument of the layer, or the next layer, with only normalization, dropout
    or pooling in between. Depthwise, separable and recurrent layers, attention and `EinsumDense` are not measured.

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
    refusal = f"example_input must be an array or a structure of arrays, got {type(example_input).__name__}"
    if example_input is None or isinstance(example_input, str):
        raise TypeError(refusal)
    try:
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, example_input)
    except (TypeError, ValueError, RuntimeError) as error:  # each backend has its own
        raise TypeError(refusal) from error
    if any(bool(keras.ops.any(keras.ops.isnan(part))) for part in _list_floating(inputs)):
        raise ValueError("example_input must be numbers, got nan among them")
    parameters = [(variable.path, len(variable.shape)) for variable in model.trainable_variables]
    make = partial(Check, how_to_follow=_HOW_TO_FOLLOW)
    return check_model(make, partial(_observe, model, inputs, loss), parameters)


def _observe(model: Any, inputs: Any, loss: Callable[[Any], Any] | None, factors: Mapping[str, float]) -> Observed:
    """Run a model as if its weights were multiplied by these factors."""
    watch = _Watch(model, factors)

    def ends(probes: Sequence[Any] | None) -> list[Any]:
        with watch.running(probes), keras.StatelessScope(), _generators():  # which keeps assignments to variables
            output = model(inputs, training=True)
            watch.mark_outputs(output)
        return _list_floating(output) if loss is None else [loss(output)]

    first = ends(None)
    if not watch.uses:
        raise ValueError("model must have a Dense or convolutional layer that an input enters, and has none")
    if not first:
        raise TypeError("loss must be given where the model has no output of floating-point numbers")
    if loss is not None and prod(getattr(first[0], "shape", (0,))) != 1:
        raise TypeError(f"loss must return a tensor of one number, got {quote(first[0])}")
    back = [_make_gradient(number, end, loss is not None) for number, end in enumerate(first)]
    del first
    probes = [keras.ops.zeros(probed.shape, probed.dtype) for probed in watch.probed_calls]
    gradients = _GRADIENTS[keras.backend.backend()](ends, probes, back)
    for probed, gradient in zip(watch.probed_calls, gradients, strict=True):
        if gradient is not None:
            probed.use.take_gradient(_to_rows(gradient, probed.use.axis), prod(probed.shape), probed.number)
    if loss is not None and not factors and not any(one.statistics.gradient_norm > 0.0 for one in watch.layers):
        raise ValueError("loss must have a gradient, got one that depends on no layer")
    return watch


def _list_floating(output: Any) -> list[Any]:
    return [end for end in keras.tree.flatten(output) if keras.backend.is_float_dtype(_dtype(end))]


def _make_gradient(number: int, end: Any, is_loss: bool) -> Any:
    """With respect to an end of the model: 1, or N(0, 1)."""
    shape = tuple(end.shape)
    values = np.ones(shape) if is_loss else fill(np.empty(shape), "normal", seed=0, name=f"gradients.{number}")
    return keras.ops.convert_to_tensor(values, dtype=_dtype(end))


def _dtype(tensor: Any) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)  # type: ignore[no-any-return]


# Gradients with respect to zeros that are added to what layers hand on


def _take_gradients_of_torch(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import torch

    with torch.enable_grad():
        reached = ends([probe.requires_grad_() for probe in probes])
        if not any(end.requires_grad for end in reached):
            return [None] * len(probes)
        return torch.autograd.grad(reached, probes, back, allow_unused=True)


def _take_gradients_of_tensorflow(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import tensorflow as tf  # type: ignore[import-untyped]

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(probes)
        reached = ends(probes)
    return tape.gradient(reached, probes, output_gradients=back)


def _take_gradients_of_jax(ends: Any, probes: list[Any], back: list[Any]) -> Any:
    import jax

    return jax.vjp(ends, probes)[1](back)[0]


_GRADIENTS = {
    "torch": _take_gradients_of_torch,
    "tensorflow": _take_gradients_of_tensorflow,
    "jax": _take_gradients_of_jax,
}


def _generators() -> AbstractContextManager[None]:
    """Keep the state of PyTorch's generator, from which its dropout draws whatever seed Keras has for it."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.random.fork_rng()


# While it runs


class _ProbedCall(NamedTuple):
    """Where a use was measured: behind the wrapped call that is number `call` of a run, and what came out of it."""

    use: Use
    number: int
    call: int
    shape: tuple[int, ...]
    dtype: str


class _Watch(Observed):
    """Wraps what layers compute: in a first run it measures, in others it adds probes to what they hand on.

    With factors, it acts as if the weights with these paths were multiplied by them.
    """

    def __init__(self, model: Any, factors: Mapping[str, float]) -> None:
        super().__init__()
        layers = [model, *model._flatten_layers(include_self=False)]
        parts = [part for layer in layers for part in (layer, *getattr(layer, "operations", ()))]
        self.parts = list({id(part): part for part in parts if part is not model}.values())
        # What spectral normalization makes of a kernel does not depend on its scale.
        wrappers = [part for part in self.parts if isinstance(part, _layers.SpectralNormalization)]
        self._names_of_parameters = {id(wrapper.layer): "" for wrapper in wrappers}
        self.probed_calls: list[_ProbedCall] = []
        self._factors = factors
        self._probes: dict[int, Any] | None = None
        self._calls = 0
        self._sources: dict[int, tuple[Any, Use]] = {}  # by the identity of tensors, which are held so that it lasts
        self._handed_on: dict[int, tuple[Any, Use]] = {}  # likewise, behind activations

    @contextmanager
    def running(self, probes: Sequence[Any] | None) -> Iterator[None]:
        self._calls = 0
        if probes is not None:
            self._probes = dict(zip([probed.call for probed in self.probed_calls], probes, strict=True))
        with ExitStack() as wrapped:
            for part in self.parts:
                see = self._see(part)
                if see is not None:
                    wrapped.enter_context(_replace_attribute(part, "call", partial(self._call, part, part.call, see)))
            yield
        self._sources.clear()
        self._handed_on.clear()

    def mark_outputs(self, output: Any) -> None:
        """Find the uses that hand on the model's outputs."""
        for end in keras.tree.flatten(output):
            _, use = self._handed_on.get(id(end), (None, None))
            if use is not None:
                use.mark_output()

    def _see(self, part: Any) -> Callable[..., Any] | None:
        if isinstance(part, (_layers.Dense, *_CONVOLUTIONS)):
            return self._see_layer
        if isinstance(part, _BETWEEN) or _is_norm(part):
            return self._see_between
        return self._see_activation if _activation(part)[0] in GAINS else None

    def _call(self, part: Any, call: Any, see: Any, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        if self._probes is None:
            return see(part, call, args, kwargs)
        is_layer = isinstance(part, (_layers.Dense, *_CONVOLUTIONS))
        output = self._apply(part, call, args, kwargs)[0] if is_layer else call(*args, **kwargs)
        return output + self._probes[self._calls] if self._calls in self._probes else output

    def _see_layer(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        number = self._calls
        activation, slope = _activation(layer.activation)
        output, before_it = self._apply(layer, call, args, kwargs)
        if 0 in output.shape:  # of an expert without tokens
            return output
        axis = _axis_of_units(layer, output)
        weights = _weights(layer, self._names_of_parameters.get(id(layer)))
        entering = _to_rows(args[0], axis) if args else None
        name = getattr(layer, "path", "") or layer.name  # the oldest Keras layers have no path
        use = self.add_use(layer, name, weights, axis, entering)
        if activation:
            use.enter_activation(activation, slope, _to_rows(before_it, axis))
            point = use.leave_activation(_to_rows(output, axis))
        else:
            point = use.measure(measure_outputs(_to_rows(output, axis)))
        self._probe_call(use, point, number, output)
        self._handed_on[id(output)] = output, use
        self._sources[id(output)] = output, use
        return output

    def _apply(self, layer: Any, call: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """What a layer hands on, with weights times its factor if it has one, and what enters its activation."""
        entered: list[Any] = []
        given = layer.activation

        def apply(inputs: Any) -> Any:
            entered.append(self._scale(layer, inputs))
            return entered[0] if given is None else given(entered[0])

        with _replace_attribute(layer, "activation", apply):
            return call(*args, **kwargs), entered[0]

    def _scale(self, layer: Any, output: Any) -> Any:
        """What a layer would hand on with weights times their factor, and the same bias."""
        factor = self._factors.get(getattr(layer.kernel, "path", ""))
        if factor is None:
            return output
        bias = None if layer.bias is None else keras.ops.cast(layer.bias, output.dtype)
        return scale_weights(output, bias, _axis_of_units(layer, output), factor)

    def _see_between(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        if _is_norm(layer):
            self.note_normalization()
        found = self._find_source(args)
        if found is not None:
            self._sources[id(output)] = output, found
        return output

    def _see_activation(self, layer: Any, call: Any, args: Any, kwargs: Any) -> Any:
        number, use = self._calls, self._find_source(args)
        output = call(*args, **kwargs)
        if use is not None:
            use.enter_activation(*_activation(layer), _to_rows(args[0], use.axis))
            self._probe_call(use, use.leave_activation(_to_rows(output, use.axis)), number, output)
            self._handed_on[id(output)] = output, use
        return output

    def _probe_call(self, use: Use, number: int, call: int, output: Any) -> None:
        self.probed_calls.append(_ProbedCall(use, number, call, tuple(output.shape), _dtype(output)))

    def _find_source(self, args: Any) -> Use | None:
        """The use whose output comes next, if it still looks for its activation."""
        _, use = self._sources.get(id(args[0]), (None, None)) if args else (None, None)
        return None if use is None or use.has_activation else use


def _is_norm(part: Any) -> bool:
    """Whether a layer normalizes signals; what wraps another layer normalizes its weights."""
    return is_norm(type(part).__name__) and not isinstance(part, _layers.Wrapper)


def _axis_of_units(layer: Any, output: Any) -> int:
    return 1 - len(output.shape) if getattr(layer, "data_format", None) == "channels_first" else -1


def _weights(layer: Any, parameter: str | None) -> Weights:
    kernel = layer.kernel
    std = float(keras.ops.convert_to_numpy(keras.ops.cast(kernel, "float32")).std(dtype=np.float64))
    axes = (-1, -2) if isinstance(layer, _TRANSPOSED) else (-2, -1)
    name = getattr(kernel, "path", "") if parameter is None else parameter
    return Weights(name, tuple(kernel.shape), std, *axes)


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
def _replace_attribute(part: Any, name: str, value: Any) -> Iterator[None]:
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


def _to_rows(tensor: Any, axis: int) -> NDArray[Any]:
    """A row of units for each input and position, or for some of them where these are very many."""
    values = tensor if _dtype(tensor) == "float64" else keras.ops.cast(tensor, "float32")  # NumPy has no bfloat16
    array = np.moveaxis(keras.ops.convert_to_numpy(values), axis, -1)
    rows: NDArray[Any] = sample_rows(array.reshape(-1, array.shape[-1]))
    return rows
