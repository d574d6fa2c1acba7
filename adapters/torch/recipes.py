"""Ready recipes: what libraries and papers start their models with, each as one table of rules.

``init_module_(model, recipes.gpt2(layers=12), seed=0)``; by name alone, ``init_module_(model, "torch", seed=0)``, where
no number is needed. ``print(recipes.bert())`` shows the table. The first rule that matches takes the parameter, and own
rules may stand before: ``[("lm_head.weight", "zeros"), *recipes.bert()]``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from winit_fast.arguments import did_you_mean
from winit_fast.distributions import Constant, Normal, TruncatedNormal, Uniform
from winit_fast.fans import Axes
from winit_fast.initializer import Initializer
from winit_fast.messages import quote
from winit_fast.registry import Scheme, read_scheme, scheme_of

from .rules import Recipe, Rule, Rules

__all__ = [
    "Recipe", "Rule", "as_rules", "bert", "dlrm", "gpt2", "hf", "hf_vit", "llama", "mup", "named", "own", "resnet",
    "t5", "torch", "torchtitan", "vit",
]  # fmt: skip

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, *BATCH_NORMS, *INSTANCE_NORMS)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

# torch.nn.init's own fans, whatever the layer: of a transposed convolution its outputs for its inputs, of all groups.
_AS_TORCH: dict[str, Any] = {"in_axis": 1, "out_axis": 0}


def torch() -> Recipe:
    """PyTorch's own: what the `reset_parameters` of the modules of torch.nn draw.

    `torch.nn.Linear`'s ``kaiming_uniform_(a=sqrt(5))`` is U(-b, b), b = 1 / sqrt(fan_in).

    Examples
    --------
    >>> from winit_fast.adapters.torch.recipes import torch
    >>> print(torch().rules[0])
    *_proj_weight of MultiheadAttention: xavier_uniform
    """
    layers = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
    return _recipe(
        "torch",
        Rule("*_proj_weight", "xavier_uniform", of=nn.MultiheadAttention),
        Rule("*.in_proj_bias", "zeros", of=nn.MultiheadAttention),
        Rule("*.out_proj.bias", "zeros", within=nn.MultiheadAttention),
        Rule("*.bias_[kv]", "xavier_normal", of=nn.MultiheadAttention),
        Rule("*.weight", "xavier_uniform", of=nn.Linear, within=nn.Transformer),
        Rule("*.weight", "he_uniform(nonlinearity='leaky_relu', slope=2.23606797749979)", of=layers, **_AS_TORCH),
        Rule("*.bias", _by_fan_of_weight, of=layers),
        Rule("*", _by_first_input, of=nn.Bilinear),
        Rule("*.weight", "normal", of=EMBEDDINGS),
        Rule("*.weight", "ones", of=NORMS),
        Rule("*.bias", "zeros", of=NORMS),
        Rule("*", _by_hidden_size, of=(nn.RNNBase, nn.RNNCellBase)),
        Rule("*.weight", _slope, of=nn.PReLU),
    )


def hf(std: float = 0.02) -> Recipe:
    """Hugging Face transformers': N(0, std^2), zeros, ones; `std` is ``config.initializer_range``.

    It is the same for every architecture, though some models use other distributions (Gemma's norms start at zeros),
    and parameters outside of layers (tokens, scales) differ from model to model. By name, ``"hf"``, a model of
    transformers' is asked instead, as by `own`.
    """
    norms = (nn.GroupNorm, *BATCH_NORMS, "*LayerNorm*", "*RMSNorm*")
    layers = (nn.Linear, *CONVOLUTIONS, nn.ConvTranspose1d, nn.ConvTranspose2d)
    return _recipe(
        "hf",
        Rule("*.weight", _normal(std), of=(*layers, nn.Embedding)),
        Rule("*.bias", "zeros", of=layers),
        Rule("*.weight", "ones", of=norms),
        Rule("*.bias", "zeros", of=norms),
        Rule("*weight*", "xavier_uniform", of=nn.LSTM),
        Rule("*bias*", "zeros", of=nn.LSTM),
        *torch(),  # which everything else keeps
        Rule("*.bias", "zeros"),  # a head's own, as BERT's
    )


def own(model: nn.Module, build: Callable[[], nn.Module] | None = None) -> Recipe:
    """The model's own: what its code draws, asked of it.

    For models of transformers' that is what `_init_weights` does, for other modules `reset_parameters`, from the
    innermost on. It runs once, on stand-ins without memory, and is recorded: a draw, a constant, and either times or
    plus a number become schemes. What is computed is computed by the same code again, from draws of the parameter's own
    stream where it draws; the report says so. By name ``"own"``, and for models of transformers' ``"hf"``.

    **Give `build` where a constructor initializes over `reset_parameters`**, as torchvision's and many others do with
    ``for part in self.modules(): torch.nn.init...``: nothing tells that such code ran, and what the layers' own
    `reset_parameters` draw would take its place. For torchvision's and timm's it is asked for.

    Parameters
    ----------
    model : torch.nn.Module
        The one to be initialized.
    build : callable, optional
        Builds such a model, for those who draw in their constructors what no method draws again, as timm's do:
        ``lambda: timm.create_model("convnext_atto")``. It runs on the meta device, and is recorded instead.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If that code fails, makes new modules, draws with another generator than PyTorch's, or gives other values each
        time; if `build` is needed and not given.

    Notes
    -----
    A parameter that this code does not touch is as the constructor made it. A model of transformers' is built from its
    configuration once more, without memory, to see how that is; elsewhere it is left as it is, and the report says so,
    or refused by name where it is on the meta device. A tied weight is what its first name gets.

    Examples
    --------
    >>> from torch import nn
    >>> from winit_fast import adapters
    >>> model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16))
    >>> print(adapters.torch.init_module_(model, "own", seed=7))
    parameter  shape   dtype    scheme                               rule
    0.weight   16 x 4  float32  he_uniform(gain=0.5773502691896257)  the model's own
    0.bias     16      float32  uniform(low=-0.5, high=0.5)          the model's own
    1.weight   16      float32  ones                                 the model's own
    1.bias     16      float32  zeros                                the model's own
    """
    from .asking import ask  # what records takes a tenth of a second to import, and few ask

    return _recipe("own", ask(model, build))


def _hf_of(module: nn.Module) -> Recipe:
    """`own` for the models of transformers' in a model, and `hf` for the rest of it."""
    from .asking import ask, outermost

    models = outermost(module)
    return _recipe("hf", *map(ask, models), *([] if module in models else hf()))


def bert(std: float = 0.02) -> Recipe:
    """BERT's, as in transformers: `hf` under its name.

    Google's own BERT cuts the same normal at 2 of its standard deviations.
    """
    return _recipe("bert", *hf(std))


def gpt2(layers: int, std: float = 0.02) -> Recipe:
    """GPT-2's: N(0, std^2), what writes into the residual stream std / sqrt(2 layers).

    For transformers' model, whose Conv1D has weights ``(in, out)``, and for those with `torch.nn.Linear` and the same
    names. OpenAI's code draws the positions with std 0.01; transformers, and this, with `std`.
    """
    residual = read_scheme("residual_normal", layers=layers, std=std)
    return _recipe(
        "gpt2",
        Rule("*.c_proj.weight", residual, of="Conv1D", in_axis=0, out_axis=1),
        Rule("*.c_proj.weight", residual, of=nn.Linear),
        Rule("*.weight", _normal(std), of="Conv1D", in_axis=0, out_axis=1),
        *hf(std),
    )


def llama(std: float = 0.02) -> Recipe:
    """Llama's, as in transformers: `hf` under its name; for torchtitan's see `torchtitan`."""
    return _recipe("llama", *hf(std))


def torchtitan(layers: int | None = None, std: float = 0.02) -> Recipe:
    """Llama 3's, as in torchtitan: embeddings N(0, 1), output std dim^-1/2 cut at 3 of them, residual ones by depth.

    `wo`, `w2` and `w3` of layer l, from 0 on, have std / sqrt(2 (l + 1)), or std / sqrt(2 layers) where `layers` is
    given (its ``depth_init=False``). torchtitan cuts these normals at -2 and 2, a hundred standard deviations away.
    """

    def by_depth(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
        """N(0, std^2 / (2 (layer + 1)))."""
        layer = re.findall(r"(?:^|\.)layers\.(\d+)\.", name)
        return _normal(std / math.sqrt(2.0 * (int(layer[-1]) + 1)))

    residual = by_depth if layers is None else read_scheme("residual_normal", layers=layers, std=std)
    return _recipe(
        "torchtitan",
        Rule(re.compile(r"(.*\.)?layers\.\d+\.(.*\.)?(wo|w2|w3)\.weight"), residual, of=nn.Linear),
        Rule("*.output.weight", _by_width, of=nn.Linear),
        Rule("*.lm_head.weight", _by_width, of=nn.Linear),
        Rule("*.weight", _normal(std), of=nn.Linear),
        Rule("*.bias", "zeros", of=nn.Linear),
        Rule("*.weight", "normal", of=nn.Embedding),
        Rule("*.weight", "ones", of=(*NORMS, "*LayerNorm*", "*RMSNorm*")),
        Rule("*.bias", "zeros", of=(*NORMS, "*LayerNorm*")),
    )


def vit(std: float = 0.02, layer_scale: float = 1e-5) -> Recipe:
    """A vision transformer's, as in timm: linear layers and positions N(0, std^2), tokens N(0, 1e-12), biases zeros.

    The convolution of the patches keeps PyTorch's. timm cuts the normals at -2 and 2, a hundred standard deviations
    away. `layer_scale` is its ``init_values``, for models that have it.
    """
    return _recipe(
        "vit",
        Rule("*pos_embed", _normal(std)),
        Rule("*.cls_token", "normal(std=1e-6)"),
        Rule("*.reg_token", "normal(std=1e-6)"),
        Rule("*.gamma", read_scheme("constant", value=layer_scale), of="LayerScale*"),
        Rule("*.weight", _normal(std), of=nn.Linear),
        Rule("*.bias", "zeros", of=nn.Linear),
        *torch(),
    )


def hf_vit(std: float = 0.02) -> Recipe:
    """A vision transformer's, as in transformers: `hf`, and its token and positions N(0, std^2)."""
    return _recipe(
        "hf_vit",
        Rule("*.cls_token", _normal(std)),
        Rule("*.position_embeddings", _normal(std)),
        Rule("*.mask_token", "zeros"),
        *hf(std),
    )


def t5(d_model: int, d_kv: int = 64, factor: float = 1.0) -> Recipe:
    """T5's, as in transformers: N(0, 1 / fan_in), queries 1 / (d_model d_kv), embeddings N(0, 1), all times factor.

    `factor` is ``config.initializer_factor``.
    """
    by_fan = read_scheme("variance_scaling", scale=factor * factor)
    whole, width = _normal(factor), _normal(factor / math.sqrt(d_model))
    return _recipe(
        "t5",
        Rule("*.q.weight", _normal(factor / math.sqrt(d_model * d_kv)), of=nn.Linear),
        Rule("*.relative_attention_bias.weight", width, of=nn.Embedding),
        Rule("*.weight", whole, of=nn.Embedding),
        Rule("*.lm_head.weight", whole, of=nn.Linear),
        Rule("*.classifier.weight", whole, of=nn.Linear),
        Rule("*.weight", by_fan, of=nn.Linear),
        Rule("*.weight", read_scheme("constant", value=factor), of="*LayerNorm*"),
        *hf(factor),
    )


def resnet(zero_init_residual: bool = True) -> Recipe:
    """A ResNet's, as in torchvision: He's normal by fan_out for convolutions, the last norm of each branch zeros.

    Its blocks are known by the names of their classes, ``BasicBlock`` and ``Bottleneck``. torchvision sets those norms
    to ones unless told ``zero_init_residual=True``; Goyal et al. 2017, arXiv:1706.02677, and timm start from zeros.
    """
    last = [Rule("*.bn2.weight", "zeros", within="BasicBlock"), Rule("*.bn3.weight", "zeros", within="Bottleneck")]
    return _recipe(
        "resnet",
        *(last if zero_init_residual else []),
        Rule("*.weight", "he_normal(mode='fan_out')", of=CONVOLUTIONS, **_AS_TORCH),
        *torch(),
    )


def dlrm() -> Recipe:
    """DLRM's: tables U(-b, b), b = 1 / sqrt(rows); layers N(0, 2 / (fan_in + fan_out)), biases N(0, 1 / fan_out).

    Naumov et al. 2019, arXiv:1906.00091, and its code.
    """
    return _recipe(
        "dlrm",
        Rule("*.weight", "embedding_uniform", of=EMBEDDINGS),
        Rule("*.weight", "xavier_normal", of=nn.Linear),
        Rule("*.bias", _by_outputs, of=nn.Linear),
    )


def mup(rules: Rules, base: nn.Module, prefix: str = "") -> Recipe:
    """A recipe in the maximal update parametrization: as it is at the base width, and from there as muP widens it.

    Each parameter is drawn as the rules say for the parameter of that name in the base model, with a standard deviation
    times (fan_in / base fan_in)^-1/2 where both its inputs and outputs are wider (hidden weights), ^-1 where only its
    inputs are (output weights), and ^0 elsewhere (input weights, embeddings, biases, norms).

    Parameters
    ----------
    rules
        As `init_module_` takes them.
    base : torch.nn.Module
        The same architecture at the base width; on the meta device is enough.
    prefix : str, default ""
        As in `init_module_`, of both models.

    Returns
    -------
    Recipe

    Notes
    -----
    Yang et al. 2022, "Tensor Programs V", arXiv:2203.03466, table 3, initial variances alone: learning rates and the
    1 / d of attention are not part of an initialization. Weights tied between an embedding and an output count as an
    embedding.

    Examples
    --------
    >>> from torch import nn
    >>> from winit_fast import adapters
    >>> from winit_fast.adapters.torch.recipes import mup
    >>> small, large = (nn.Sequential(nn.Linear(8, n), nn.Linear(n, n), nn.Linear(n, 2)) for n in (64, 256))
    >>> recipe = mup({"*.weight": "normal(std=0.1)", "*.bias": "zeros"}, small)
    >>> report = adapters.torch.init_module_(large, recipe, seed=7)
    >>> [str(entry.scheme) for entry in report if entry.name.endswith("weight")]
    ['normal(std=0.1)', 'normal(std=0.05)', 'normal(std=0.025)']
    """
    if not isinstance(base, nn.Module):
        raise TypeError(f"base must be a torch.nn.Module of the base width, got {quote(base)}")
    name = rules if isinstance(rules, str) else rules.name if isinstance(rules, Recipe) else "rules"
    return _recipe(f"mup {name}", *(_widen(rule, base, prefix) for rule in as_rules(rules)))


def named(name: str, module: nn.Module | None = None) -> Recipe:
    """The recipe of that name, of those that need no numbers; ``"own"`` and ``"hf"`` ask the module.

    Examples
    --------
    >>> from winit_fast.adapters.torch.recipes import named
    >>> named("resnet").name
    'resnet'
    >>> named("gpt2")
    Traceback (most recent call last):
        ...
    ValueError: recipe 'gpt2' needs layers: recipes.gpt2(layers=...)
    """
    if name not in _RECIPES:
        raise ValueError(f"recipe {quote(name)} is unknown; {did_you_mean(name, _RECIPES)}")
    if name == "own" and module is not None:
        return own(module)
    if name == "hf" and module is not None:
        return _hf_of(module)
    signature = inspect.signature(_RECIPES[name])
    needed = [argument.name for argument in signature.parameters.values() if argument.default is argument.empty]
    if needed:
        call = ", ".join(f"{argument}=..." for argument in needed)
        raise ValueError(f"recipe {name!r} needs {', '.join(needed)}: recipes.{name}({call})")
    return _RECIPES[name]()


_RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe for recipe in (own, torch, hf, bert, gpt2, llama, torchtitan, vit, hf_vit, t5, resnet, dlrm)
}


# Rules by what a caller gives


def as_rules(rules: Rules, module: nn.Module | None = None) -> tuple[Rule, ...]:
    """The rules that a caller gave: the name of a recipe, a recipe, a mapping, or a sequence of rules and pairs.

    Some recipes by name ask the module what its own code draws.
    """
    if isinstance(rules, str | Scheme) and _is_scheme(rules):
        raise TypeError(f"rules must say which parameters they are for, and {_for_weights(str(rules))}")
    if isinstance(rules, str):
        return named(rules, module).rules
    given = rules.items() if isinstance(rules, Mapping) else rules
    if not isinstance(given, Recipe | Sequence) and not isinstance(rules, Mapping):
        hint = ""
        if isinstance(rules, Rule):
            hint = "; put it into a list"
        elif callable(rules):
            hint = f"; pass what it returns: {getattr(rules, '__name__', 'it')}(...)"
        raise TypeError(f"rules must be a recipe, its name, or a sequence of Rule or pairs, got {quote(rules)}{hint}")
    return tuple(_as_rule(number, rule) for number, rule in enumerate(given))


def _as_rule(number: int, rule: object) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, tuple) and len(rule) == 2:
        return Rule(*rule)
    hint = ""
    if isinstance(rule, Recipe):
        hint = "; spread it: [*recipe]"
    elif isinstance(rule, str):
        hint = f": {_for_weights(rule)}" if _is_scheme(rule) else "; put the pair into a list"
    raise TypeError(f"rules[{number}] must be a Rule or a pair of a name and a scheme, got {quote(rule)}{hint}")


def _is_scheme(given: str | Scheme) -> bool:
    """Whether this is a scheme, though no recipe."""
    try:
        read_scheme(given)
    except (TypeError, ValueError):
        return False
    return True


def _for_weights(scheme: str) -> str:
    return f"{quote(scheme)} is a scheme: pass {{'*.weight': {quote(scheme)}, '*.bias': 'zeros'}}"


# What recipes are made of


def _recipe(name: str, *rules: Rule) -> Recipe:
    return Recipe(name, rules)


def _normal(std: float) -> Scheme:
    return read_scheme("normal", std=std)


def _uniform(bound: float) -> Scheme:
    return read_scheme("uniform", low=-bound, high=bound)


# What depends on the module or the parameter


def _by_fan_of_weight(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """U(-b, b), b = 1 / sqrt(fan_in of the weight)."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    fan_in = math.prod(weight.shape[1:])
    return _uniform(1.0 / math.sqrt(fan_in) if fan_in else 0.0)


def _by_first_input(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """U(-b, b), b = 1 / sqrt(in1_features)."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    return _uniform(1.0 / math.sqrt(weight.shape[1]))


def _by_hidden_size(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """U(-b, b), b = 1 / sqrt(hidden_size)."""
    return _uniform(1.0 / math.sqrt(module.hidden_size))  # type: ignore[arg-type]


def _slope(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """The constant that the PReLU was made with."""
    return read_scheme("constant", value=module.init)


def _by_width(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """N(0, 1 / fan_in) cut at 3 standard deviations."""
    return read_scheme("truncated_normal", std=1.0 / math.sqrt(parameter.shape[1]), low=-3.0, high=3.0)


def _by_outputs(module: nn.Module, name: str, parameter: Tensor) -> Scheme:
    """N(0, 1 / fan_out)."""
    return _normal(1.0 / math.sqrt(max(1, parameter.shape[0])))


# Wider models


def _widen(rule: Rule, base: nn.Module, prefix: str) -> Rule:
    def widened(module: nn.Module, name: str, parameter: Tensor) -> Scheme | None:
        path, _, local = name.removeprefix(prefix).rpartition(".")
        try:
            owner = base.get_submodule(path)
            narrow = owner._parameters[local]
        except (AttributeError, KeyError):
            narrow = None
        if narrow is None or narrow.dim() != parameter.dim():
            raise ValueError(f"base must be of the same architecture, and has no {name!r} of {parameter.dim()} axes")
        scheme = rule.scheme_for(owner, name, narrow)
        if scheme is None or narrow.shape == parameter.shape:
            return scheme
        axes = rule.axes(owner, name, narrow.dim(), scheme)
        factor = _find_factor(axes["in_axis"], module, tuple(parameter.shape), tuple(narrow.shape))
        return _scale(Initializer(scheme, **axes), tuple(narrow.shape), factor)

    widened.__doc__ = f"{rule.draws}, by muP from the base width"
    return replace(rule, scheme=widened)


def _find_factor(in_axis: Axes, module: nn.Module, shape: tuple[int, ...], narrow: tuple[int, ...]) -> float:
    """What the standard deviation is multiplied with, from which axes are wider than the base model's."""
    wider = [axis for axis, (size, base) in enumerate(zip(shape, narrow, strict=True)) if size != base]
    inputs = 0 if isinstance(module, TRANSPOSED) else in_axis % len(shape) if isinstance(in_axis, int) else 1
    if inputs not in wider or isinstance(module, EMBEDDINGS):
        return 1.0
    ratio = narrow[inputs] / shape[inputs]
    return math.sqrt(ratio) if len(wider) > 1 else ratio


def _scale(initializer: Initializer, shape: tuple[int, ...], factor: float) -> Scheme:
    match initializer.distribution(shape):
        case Constant():
            return initializer.scheme
        case Normal() | TruncatedNormal() as law:
            return scheme_of(replace(law, std=law.std * factor))
        case Uniform(low, high):
            return scheme_of(Uniform(low * factor, high * factor))
    raise ValueError(f"mup takes schemes of independent elements, got {initializer.scheme}")
