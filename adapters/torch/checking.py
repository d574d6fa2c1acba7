"""Checks: run a model once forward and once backward, and see whether signals and gradients keep their size."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from winit_fast.check import Check as SharedCheck
from winit_fast.check import (
    Observed,
    Use,
    Weights,
    check_model,
    is_norm,
    measure_outputs,
    sample_rows,
    scale_weights,
)
from winit_fast.messages import quote

from .parameters import PARALLEL, find_parameters, strip_wrappers
from .rules import Rule, axes_of_weight, is_conv1d
from .tensors import init_

__all__ = ["Check", "check"]

Inputs: TypeAlias = "Tensor | tuple[Any, ...] | Mapping[str, Any]"

# Functions, methods and operators of torch by the name that they have without the underscore of those in place, and the
# names that `recommend` knows them by. Modules of torch.nn call these.
_ACTIVATIONS = {
    **{name: name for name in ("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish")},
    **{name: name for name in ("tanh", "sigmoid", "softsign", "softplus")},
    "hardswish": "hard_swish",
    "hardtanh": "relu6",  # if its bounds are 0 and 6
    "clamp": "relu",  # if its bounds are 0 and none, or 6
}

# Modules of transformers that write an activation in several operations.
_COMPOSED = {
    "AccurateGELUActivation": "gelu_tanh",
    "FastGELUActivation": "gelu_tanh",
    "NewGELUActivation": "gelu_tanh",
    "QuickGELUActivation": "gelu",
}

_NORMALIZATIONS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}

# What may stand between a layer and its activation, and keeps units on their axis.
_BETWEEN = {
    *_NORMALIZATIONS,
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *(f"{kind}_pool{rank}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for rank in (1, 2, 3)),
}


@dataclass(frozen=True, eq=False)
class Check(SharedCheck):
    """What `check` found; ``print`` shows a table of the layers, the verdict and the suggestions.

    Attributes
    ----------
    layers : tuple of CheckedLayer
        In the order in which they ran: `name`, `kind`, `activation`, `weights` (`name`, `shape`, `std`, the axes),
        `statistics` (those of `winit_fast.report`), `recommendation` and `recommended_std`.
    unmeasured : tuple of str
        Parameters with two axes or more that belong to none of these layers, such as embeddings.
    is_normalized : bool
        Whether signals are normalized again and again between these layers, which makes up for the scale of weights.
    verdict : winit_fast.report.Verdict
    off : tuple of CheckedLayer
        Those whose weights have another width than is recommended for their activation.
    suggestions : dict of str to Recommendation
        For each parameter that is off, by its name, what is recommended instead; none where that does not help.
    tried : tuple of CheckedLayer or None
        The same layers where those that are off are as wide as is recommended; None where that was not tried.
    verdict_tried : winit_fast.report.Verdict or None
    """

    how_to_follow: str = 'adapters.torch.init_module_(model, [*found.rules, ("*", None)], seed=0)'

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The suggestions as rules, with their axes: ``init_module_(model, [*check.rules, ("*", None)], seed=...)``."""
        weights = {layer.weights.name: layer.weights for layer in self.off}
        return tuple(
            Rule(name, suggested.scheme, in_axis=weights[name].in_axis, out_axis=weights[name].out_axis)
            for name, suggested in self.suggestions.items()
        )


def check(model: nn.Module, example_input: Inputs, *, loss: Callable[[Any], Tensor] | None = None) -> Check:
    """Run a model that has just been initialized, and say which layers let signals or gradients vanish or explode.

    Parameters
    ----------
    model : torch.nn.Module
        It runs as it stands: in training mode dropout drops, and batch norm takes the batch's statistics, as in the
        first step of training.
    example_input : Tensor, tuple or mapping
        A batch, of some tens of different inputs at best: one tensor, a tuple of positional arguments, or a mapping of
        keyword arguments, as transformers' models take them.
    loss : callable, optional
        ``loss(output)`` is the scalar whose gradient is taken back. Left out: the gradient with respect to the output's
        floating-point tensors is N(0, 1), the same in every call. What a loss gives is taken as it is.

    Returns
    -------
    Check
        One entry for every use of a Linear, convolutional (transposed too) or transformers' Conv1D layer.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, a parameter has no memory yet or was made under `torch.inference_mode`, no
        weighted layer ran, or the model checkpoints with ``use_reentrant=True``.

    See Also
    --------
    winit_fast.report.judge : what the verdicts mean.
    winit_fast.recommend : where the suggestions come from.

    Notes
    -----
    The model is left as it was, also where it raises: its parameters, buffers, gradients, hooks and modes, and the
    state of the generators of PyTorch, NumPy and Python; not what its own hooks and Python code keep, nor a generator
    of its own. It runs once, or twice where suggestions are tried. Statistics are taken while it runs, of some rows
    where an output has more than 2^24 numbers, and nothing is kept of what passes but what autograd keeps.

    Verdicts are about the signals that enter layers, and the gradients, by their norms, that layers get back. A layer
    is compared with the layers that come first and with its like in other blocks, ``blocks.0.query`` with
    ``blocks.1.query``. Branches that begin small, or with 0, as the last weights of residual blocks may, are passed by
    where other signals go around them; the loss decides about what output layers return.

    Layers are off whose weights are more than 25 % away from the standard deviation that `recommend` gives for their
    activation (5 % where the verdict is not stable), and, where it is not, layers without an activation that are more
    than 2 times away. None is off in a stable model that normalizes its signals, or that has He's weights by fan_out in
    all layers. What `recommend` gives is meant for plain stacks, and knows neither dropout nor residual sums. So it is
    tried: the model runs once more, with the outputs of these layers scaled as their weights would be, and it is
    suggested if the model then is stable, or its signals and gradients keep nearer to one size. It cannot be tried, and
    is suggested, where units are all the same. It is all of the layers that are tried, or none.

    An activation is seen where a function, method or module of torch is given what the layer handed on, or what
    normalization, dropout or pooling made of it. It is not where something else comes between (a residual sum, a split
    for a gated unit), where it is written in arithmetic (transformers' GELUs are known), and inside of TorchScript.
    ``x * torch.sigmoid(x)`` is taken for a sigmoid. Layers whose `forward` is passed by, as those in
    `torch.nn.MultiheadAttention`, are among the unmeasured. Where neither a layer nor what comes before it has a
    parameter that requires a gradient, it has none here.

    Examples
    --------
    >>> import torch
    >>> from winit_fast import adapters
    >>> hidden = [layer for _ in range(24) for layer in (torch.nn.Linear(64, 64), torch.nn.ReLU())]
    >>> model = torch.nn.Sequential(*hidden, torch.nn.Linear(64, 10))
    >>> _ = adapters.torch.init_module_(model, {"*.weight": "xavier_normal", "*.bias": "zeros"}, seed=7)
    >>> batch = adapters.torch.init((128, 64), "normal", seed=7, name="batch")
    >>> found = adapters.torch.check(model, batch)
    >>> print(found.verdict.word, "-", found.suggestions["0.weight"].scheme)
    vanishes - he_normal
    >>> _ = adapters.torch.init_module_(model, [*found.rules, ("*", None)], seed=7)
    >>> print(adapters.torch.check(model, batch).verdict)
    stable
    """
    _refuse(model, example_input, loss)
    while isinstance(model, PARALLEL):  # which would wait for gradients that never come
        model = model.module
    parameters = find_parameters(model, "")
    names = {id(found.parameter): found.name for found in parameters}
    axes = [(found.name, found.parameter.ndim) for found in parameters]
    return check_model(Check, partial(_observe, model, names, example_input, loss), axes)


def _observe(
    model: nn.Module,
    names: Mapping[int, str],
    example_input: Inputs,
    loss: Callable[[Any], Tensor] | None,
    factors: Mapping[str, float],
) -> Observed:
    """Run a model whose weights are taken to be wider by these factors; `names` are its parameters'."""
    watch = _Watch(model, names, factors)
    with _restore_afterwards(model), watch.hooks(), torch.inference_mode(False), torch.enable_grad():
        with watch:
            output = _run(model, example_input)
        watch.is_on = False  # what checkpointing computes again
        if not watch.uses:
            raise ValueError("model must have a Linear or convolutional layer that an input enters, and has none")
        ends = _ends(output, loss, bool(watch.targets))
        watch.mark_outputs(ends)
        _take_back(ends, watch.targets, loss is not None)
    watch.targets.clear()
    watch.nodes.clear()
    return watch


def _refuse(model: nn.Module, example_input: Inputs, loss: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(example_input, Tensor | tuple | Mapping):
        raise TypeError(
            "example_input must be a tensor, a tuple of positional arguments or a mapping of keyword arguments, got "
            f"{type(example_input).__name__}"
        )
    if any(not part.is_meta and bool(part.isnan().any()) for part in _tensors(example_input)):
        raise ValueError("example_input must be numbers, got nan among them")
    if loss is not None and not callable(loss):
        raise TypeError(f"loss must be a callable of the model's output, got {quote(loss)}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"model must have shapes, but {name} is lazy; run the model once before")
        if tensor.is_meta:
            raise ValueError(f"model must have memory, but {name} is on the meta device; see materialize_")
        if tensor.is_inference():
            raise ValueError(f"model must be made outside of torch.inference_mode, but {name} was made inside of it")


def _run(model: nn.Module, example_input: Inputs) -> Any:
    """Run it on copies: models may write into an input, and autograd takes none made under inference mode."""
    if isinstance(example_input, Mapping):
        return model(**tree_map_only(Tensor, torch.clone, dict(example_input)))
    given = example_input if isinstance(example_input, tuple) else (example_input,)
    return model(*tree_map_only(Tensor, torch.clone, given))


def _ends(output: Any, loss: Callable[[Any], Tensor] | None, is_trained: bool) -> list[Tensor]:
    """The tensors from which a gradient is taken back; none where nothing is trained."""
    if loss is None:
        ends = list(_tensors(output))
        if not ends:
            raise TypeError(f"loss must be given where the output has no floating-point tensor, got {quote(output)}")
    else:
        ends = [loss(output)]
        if not isinstance(ends[0], Tensor) or ends[0].numel() != 1:
            raise TypeError(f"loss must return a tensor of one number, got {quote(ends[0])}")
        if is_trained and not ends[0].requires_grad:
            raise ValueError("loss must return a tensor with a gradient, got one that depends on no parameter")
    return [end for end in ends if end.requires_grad]


def _take_back(ends: list[Tensor], targets: list[Any], is_loss: bool) -> None:
    """One backward pass, for its hooks; no parameter's `grad` is written."""
    if not ends or not targets:
        return
    gradients = [torch.ones_like(end) if is_loss else _projection(end, n) for n, end in enumerate(ends)]
    try:
        torch.autograd.grad(ends, targets, gradients, allow_unused=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
        raise ValueError("model must checkpoint with use_reentrant=False, got use_reentrant=True") from error


def _projection(end: Tensor, number: int) -> Tensor:
    gradient = torch.empty(end.shape, dtype=end.dtype, device=end.device)
    return init_(gradient, "normal", seed=0, name=f"gradients.{number}")


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in lists, tuples and mappings too (transformers' outputs are such)."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping | list | tuple):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


# While it runs


def _axis_of_units(module: nn.Module) -> int | None:
    """Where the units are in the output of a weighted layer; None of other modules."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return -1 - len(module.kernel_size)
    return -1 if isinstance(module, nn.Linear) or is_conv1d(module) else None


class _Watch(Observed, TorchFunctionMode):
    """Sees the outputs of layers by their hooks, and what becomes of these tensors by the functions of torch."""

    def __init__(self, model: nn.Module, parameters: Mapping[int, str], factors: Mapping[str, float]) -> None:
        super().__init__()
        self._parameters = parameters
        self._factors = factors
        self.is_on = True
        self.targets: list[Any] = []
        self.nodes: dict[Any, Use] = {}  # of autograd, where layers' outputs come from
        self._modules = dict(model.named_modules())
        names = dict(model.named_modules(remove_duplicate=False))
        self._names = {id(part): strip_wrappers(path, names) for path, part in self._modules.items()}
        self._sources: Any = WeakTensorKeyDictionary()

    def mark_outputs(self, ends: list[Tensor]) -> None:
        """Find the uses from which the ends are reached by no other use."""
        waiting, seen = [end.grad_fn for end in ends], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            use = self.nodes.get(node)
            if use is not None:
                use.mark_output()
            else:
                waiting += [before for before, _ in node.next_functions]

    @contextmanager
    def hooks(self) -> Iterator[None]:
        with ExitStack() as handles:
            for part in self._modules.values():
                if _axis_of_units(part) is not None:
                    handles.callback(part.register_forward_hook(self._see_layer).remove)
                elif type(part).__name__ in _COMPOSED:
                    handles.callback(part.register_forward_hook(self._see_composed).remove)
                elif is_norm(type(part).__name__) and not any(_axis_of_units(inner) for inner in part.modules()):
                    handles.callback(part.register_forward_hook(self._see_normalization).remove)
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").removesuffix("_")
        if not self.is_on or not (name in _ACTIVATIONS or name in _BETWEEN):
            return func(*args, **kwargs)
        if name in _NORMALIZATIONS:
            self.note_normalization()
        source = args[0] if args else kwargs.get("input")
        use = self._use(source)
        if use is None:
            return func(*args, **kwargs)
        if name in _BETWEEN:
            output = func(*args, **kwargs)
            if isinstance(output, Tensor):
                self._sources[output] = use, output._version
            return output
        activation, slope = _name_activation(name, args[1:], kwargs)
        if activation is None:
            return func(*args, **kwargs)
        use.enter_activation(activation, slope, _array(source, use.axis))
        output = func(*args, **kwargs)
        self._leave_activation(use, output)
        return output

    def _see_layer(self, module: nn.Module, args: Any, output: Any) -> Tensor | None:
        """Measure what a layer hands on; where its weights are to be wider, in place of it what they would give."""
        axis = _axis_of_units(module)
        if not self.is_on or axis is None or not isinstance(output, Tensor) or not output.is_floating_point():
            return None
        if output.numel() == 0:  # of an expert without tokens
            return None
        name = self._names[id(module)] or "(model)"
        weight: Tensor = module.weight  # type: ignore[assignment]
        parameter = self._parameters.get(id(weight), "")
        if getattr(module, "transposed", False) and getattr(module, "groups", 1) > 1:
            parameter = ""  # no axes give it its fans
        weights = Weights(parameter, tuple(weight.shape), _std(weight), *axes_of_weight(module)[:2])
        use = self.add_use(module, name, weights, axis, _array(args[0], axis) if args else None)
        if output.requires_grad:
            self.targets.append(_target(module, output))
        handed_on: Tensor = output
        if parameter in self._factors:
            handed_on = scale_weights(output, getattr(module, "bias", None), axis, self._factors[parameter])
        _take_gradient(use, use.measure(measure_outputs(_array(handed_on, axis))), handed_on)
        self._sources[handed_on] = use, handed_on._version
        if handed_on.grad_fn is not None:
            self.nodes[handed_on.grad_fn] = use
        return handed_on

    def _use(self, source: Any) -> Use | None:
        """The use that handed this tensor on, as it is, and still looks for its activation."""
        use, version = self._sources.get(source, (None, 0)) if isinstance(source, Tensor) else (None, 0)
        return None if use is None or use.has_activation or source._version != version else use

    def _see_normalization(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.is_on:
            self.note_normalization()

    def _see_composed(self, module: nn.Module, args: Any, output: Any) -> None:
        use = self._use(args[0]) if self.is_on and args else None
        if use is not None:
            use.enter_activation(_COMPOSED[type(module).__name__], None, _array(args[0], use.axis))
            self._leave_activation(use, output)

    def _leave_activation(self, use: Use, output: Tensor) -> None:
        _take_gradient(use, use.leave_activation(_array(output, use.axis)), output)
        self._sources.pop(output, None)  # where it was computed in place


def _take_gradient(use: Use, place: int, output: Tensor) -> None:
    """Have the gradient with respect to an output measured when it comes."""
    if output.requires_grad:
        output.register_hook(lambda gradient: use.take_gradient(_array(gradient, use.axis), gradient.numel(), place))  # type: ignore[no-untyped-call]


def _name_activation(name: str, args: Any, kwargs: Any) -> tuple[str | None, float | None]:
    """The name of an activation by its function and the arguments behind the first, and its negative slope."""
    if name == "gelu":
        return "gelu_tanh" if kwargs.get("approximate") == "tanh" else "gelu", None
    if name == "leaky_relu":
        return name, float(args[0] if args else kwargs.get("negative_slope", 0.01))
    if name == "prelu":
        return name, float((args[0] if args else kwargs["weight"]).detach().mean())
    if name == "hardtanh":
        low = args[0] if args else kwargs.get("min_val", -1.0)
        high = args[1] if len(args) > 1 else kwargs.get("max_val", 1.0)
        return "relu6" if (low, high) == (0.0, 6.0) else None, None
    if name == "clamp":
        low = args[0] if args else kwargs.get("min")
        high = args[1] if len(args) > 1 else kwargs.get("max")
        return {(0, None): "relu", (0, 6): "relu6"}.get((low, high)) if not isinstance(low, Tensor) else None, None
    if name == "elu":
        alpha = float(args[0] if args else kwargs.get("alpha", 1.0))
        return (name if alpha == 1.0 else f"elu(alpha={alpha:g})"), None
    return _ACTIVATIONS[name], None


def _target(module: nn.Module, output: Tensor) -> Any:
    """Whose gradient makes autograd pass by the output: the bias is smallest; else where the output comes from."""
    bias = getattr(module, "bias", None)
    if isinstance(bias, nn.Parameter) and bias.requires_grad:
        return bias
    return torch.autograd.graph.get_gradient_edge(output)


def _array(tensor: Tensor, axis: int) -> NDArray[Any]:
    """A row of units for each input and position, or for some of them where these are very many."""
    rows = sample_rows(tensor.detach().movedim(axis, -1).flatten(0, -2) if tensor.ndim > 1 else tensor.detach()[None])
    values: NDArray[Any] = rows.to("cpu", torch.float64 if rows.dtype == torch.float64 else torch.float32).numpy()
    return values


def _std(weight: Tensor) -> float:
    values = weight.detach()
    values = values if values.dtype == torch.float64 else values.float()
    std, mean = float(values.std(correction=0)), float(values.mean())
    return 0.0 if std < 1e-6 * abs(mean) else std  # what summing in float32 rounds off


# And afterwards


@contextmanager
def _restore_afterwards(model: nn.Module) -> Iterator[None]:
    """Restore buffers, modes and the state of generators."""
    scripted = torch.jit.ScriptModule  # whose buffers are TorchScript's to keep
    held = [(part, dict(part._buffers)) for part in model.modules() if not isinstance(part, scripted)]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    modes = [(part, part.training) for part in model.modules()]
    states = random.getstate(), np.random.get_state()
    stance = getattr(torch.compiler, "set_stance", None)  # of 2.6: compiled parts run as they were written
    with ExitStack() as generators:
        generators.enter_context(nullcontext() if stance is None else stance("force_eager"))
        devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
        for kind in {device.type for device in devices if device.index is not None} - {"mps"} or {"cuda"}:
            indices = [device.index for device in devices if device.type == kind and device.index is not None]
            generators.enter_context(torch.random.fork_rng(indices, device_type=kind))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for part, is_training in modes:
                part.training = is_training
            with torch.no_grad():
                for buffer, value in values:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
            for part, buffers in held:
                part._buffers.clear()
                part._buffers.update(buffers)
