"""The catalogue: every scheme, with its formula, its arguments, its paper, and what other libraries call it.

To add a scheme, write one function under `register` (or `register_family`) in this file. Its signature gives the names,
kinds and defaults of the arguments, its docstring the formula. It returns a distribution, or a law that makes one from
the shape.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, TypeAlias

from winit_fast.arguments import (
    Value,
    finite,
    gate_order,
    leaves_of_array,
    lower_bound,
    not_negative,
    numbers_of_array,
    one_of,
    optional,
    proportion,
    shape_of_array,
    upper_bound,
    whole_from,
)
from winit_fast.distributions import (
    Bilinear,
    ComplexNormal,
    ComplexTruncatedNormal,
    ComplexUniform,
    Constant,
    ConvolutionOrthogonal,
    DeltaOrthogonal,
    Dirac,
    Distribution,
    GivenValues,
    Identity,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from winit_fast.fans import Layout
from winit_fast.gains import GAINS, calculate_gain
from winit_fast.messages import quote
from winit_fast.records import record
from winit_fast.registry import (
    REQUIRED,
    Argument,
    Entry,
    Equivalent,
    Law,
    Scheme,
    SchemeInfo,
    ShapeLaw,
    read_scheme,
    register,
    register_family,
    scheme,
    schemes,
)

__all__ = ["REQUIRED", "Argument", "Entry", "Equivalent", "Scheme", "SchemeInfo", "read_scheme", "scheme", "schemes"]

# What scales with a fan

_SQRT3 = 1.7320508075688772

# The standard deviation of N(0, 1) cut at +-2: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)); the constant of Keras and JAX.
_STD_OF_TRUNCATED = 0.87962566103423978
# That of the complex normal, |z| cut at 2: sqrt((1 - 5 e^-4) / (1 - e^-4)). JAX's constant lacks the divisor.
_STD_OF_COMPLEX_TRUNCATED = 0.9619618280082135

_KINDS: dict[str, Callable[[float], Distribution]] = {
    "uniform": lambda std: Uniform(-_SQRT3 * std, _SQRT3 * std),
    "normal": lambda std: Normal(0.0, std),
    "truncated_normal": lambda std: TruncatedNormal(0.0, std / _STD_OF_TRUNCATED, -2.0, 2.0),
}

_COMPLEX_KINDS: dict[str, Callable[[float], Distribution]] = {
    "uniform": ComplexUniform,
    "normal": ComplexNormal,
    "truncated_normal": lambda std: ComplexTruncatedNormal(std / _STD_OF_COMPLEX_TRUNCATED),
}

_FORMULAS = {
    "uniform": "U(-sqrt(3) std, sqrt(3) std)",
    "normal": "N(0, std^2)",
    "truncated_normal": "N(0, (std / 0.8796...)^2) cut at 2 of its standard deviations",
}

_FANS: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2.0,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}


@record
class FanScaled(ShapeLaw):
    """A distribution around 0 whose standard deviation `std` falls with a fan."""

    std: Callable[[float], float]
    mode: str
    kind: str

    def distribution(self, layout: Layout) -> Distribution:
        """The distribution for the fans of this layout."""
        fans = layout.fans()
        try:
            fan = _FANS[self.mode](float(fans.fan_in), float(fans.fan_out))
        except OverflowError:
            fan = math.inf
        if math.isinf(fan):
            raise ValueError(f"shape must have fans within float64, got {quote(tuple(fans))}")
        return self.of_fan(fan, _COMPLEX_KINDS if layout.is_complex else _KINDS)

    def of_fan(self, fan: float, kinds: Mapping[str, Callable[[float], Distribution]]) -> Distribution:
        """The distribution for this fan; one below 1 (an empty tensor's) counts as 1."""
        std = self.std(max(1.0, fan))
        return kinds[self.kind](std) if std > 0.0 else Constant(0.0)


def _scale_by_fan(std: Callable[[float], float], mode: str, kind: str) -> Law:
    law = FanScaled(std, mode, kind)
    match law.of_fan(1.0, _KINDS):  # the largest std it has
        case Constant() as constant:
            return constant
        case Uniform(high=spread) | Normal(std=spread) | TruncatedNormal(std=spread) if math.isinf(spread):
            raise ValueError(f"gain, scale or std must keep the weights within float64, got a std of {std(1.0)}")
    return law


# Kinds of arguments

Finite: TypeAlias = Annotated[float, finite]
NotNegative: TypeAlias = Annotated[float, not_negative]
Proportion: TypeAlias = Annotated[float, proportion]
Count: TypeAlias = Annotated[int, whole_from(1)]
CountOrNone: TypeAlias = Annotated[int, whole_from(0)]
Values: TypeAlias = Annotated[tuple[Value, ...], numbers_of_array]
Low: TypeAlias = Annotated[float, lower_bound]
High: TypeAlias = Annotated[float, upper_bound]
Mode: TypeAlias = Annotated[str, one_of(*_FANS)]
Kind: TypeAlias = Annotated[str, one_of(*_KINDS)]
Nonlinearity: TypeAlias = Annotated[str | None, optional(one_of(*GAINS))]
Slope: TypeAlias = Annotated[float | None, optional(finite)]
Gain: TypeAlias = Annotated[float | None, optional(not_negative)]
Rounding: TypeAlias = Annotated[str, one_of("nearest", "below_high")]
Per: TypeAlias = Annotated[str, one_of("in", "out")]
Coder: TypeAlias = Annotated[str, one_of("encoder", "decoder")]
CoderOrNone: TypeAlias = Annotated[str | None, optional(one_of("encoder", "decoder"))]
Role: TypeAlias = Annotated[str, one_of("input", "hidden", "output")]
GateOrder: TypeAlias = Annotated[str, gate_order]

# The schemes


@register(Equivalent("zeros", "zeros_(w)", "Zeros()", "zeros"))
def zeros() -> Law:
    """0 everywhere."""
    return Constant(0.0)


@register(Equivalent("ones", "ones_(w)", "Ones()", "ones"))
def ones() -> Law:
    """1 everywhere."""
    return Constant(1.0)


@register(Equivalent("constant(0.5)", "constant_(w, 0.5)", "Constant(0.5)", "constant(0.5)"))
def constant(value: Finite) -> Law:
    """The value everywhere."""
    return Constant(value)


@register(
    Equivalent("uniform(-0.05, 0.05)", "uniform_(w, -0.05, 0.05)", "RandomUniform(-0.05, 0.05)"),
    Equivalent("uniform(0, 0.01)", "uniform_(w, 0, 0.01)", "RandomUniform(0, 0.01)", "uniform(0.01)"),
)
def uniform(low: Finite = 0.0, high: Finite = 1.0, rounding: Rounding = "nearest") -> Law:
    """U(low, high), its values in [low, high); low where low == high.

    Differs: types narrower than float32 hold the nearest number, which may be high itself (0.19 % of U(0, 1) in
    bfloat16); with rounding="below_high" they stay below it, as in torch, Keras and JAX, and no other value changes
    """
    if low > high:
        raise ValueError(f"low must be <= high, got low={low}, high={high}")
    return Uniform(low, high, rounding) if low < high else Constant(low)


@register(Equivalent("normal(std=0.02)", "normal_(w, std=0.02)", "RandomNormal(stddev=0.02)", "normal(0.02)"))
def normal(mean: Finite = 0.0, std: NotNegative = 1.0) -> Law:
    """N(mean, std^2).

    Differs: normal(0.02) has the mean 0.02, as normal_(w, 0.02) in torch; normal(0.02) in JAX has the standard
    deviation 0.02. Of complex numbers std is the root of the mean of |z|^2, as in JAX, and the mean must be 0
    """
    return Normal(mean, std) if std > 0.0 else Constant(mean)


@register(
    Equivalent(
        "truncated_normal(std=0.02)",
        "trunc_normal_(w, std=0.02, a=-0.04, b=0.04)",
        "TruncatedNormal(stddev=0.02)",
        "truncated_normal(0.02)",
    ),
    Equivalent(
        "truncated_normal(std=0.02, low=-100, high=100)",
        "trunc_normal_(w, std=0.02)",
        "",
        "truncated_normal(0.02, lower=-100, upper=100)",
    ),
)
def truncated_normal(mean: Finite = 0.0, std: NotNegative = 1.0, low: Low = -2.0, high: High = 2.0) -> Law:
    """N(mean, std^2) given that it falls in [mean + low std, mean + high std].

    Source: Robert 1995, "Simulation of truncated normal variables", arXiv:0907.4010

    Differs: torch's bounds are values, so that its defaults of -2 and 2 cut nothing off where std is 0.02; here, in
    Keras and in JAX they are standard deviations. It is not widened to make up for what was cut, as in all three
    """
    if low > high:
        raise ValueError(f"low must be <= high, got low={low}, high={high}")
    if std == 0.0:
        return Constant(mean)
    if low == high:
        return Constant(finite("mean + std * low", mean + std * low))
    if low == -math.inf and high == math.inf:
        return Normal(mean, std)
    return TruncatedNormal(mean, std, low, high)


@register(
    Equivalent(
        "variance_scaling(scale=1, distribution='truncated_normal')",
        "",
        "VarianceScaling()",
        "variance_scaling(1, 'fan_in', 'truncated_normal')",
    ),
)
def variance_scaling(scale: NotNegative = 1.0, mode: Mode = "fan_in", distribution: Kind = "normal") -> Law:
    """The distribution named, around 0, with std = sqrt(scale / fan).

    Source: Keras's VarianceScaling, after He et al. 2015

    Differs: Keras's distribution "normal" is the truncated normal; here and in JAX it is not. JAX widens a complex
    truncated normal by 1 / 0.9531..., which is 0.9 % too much: what the cut leaves has std 0.9619618280082135
    """
    return _scale_by_fan(lambda fan: math.sqrt(scale / fan), mode, distribution)


@register_family(
    _FORMULAS,
    Equivalent(
        "he_normal",
        "kaiming_normal_(w)",
        "VarianceScaling(2, 'fan_in', 'untruncated_normal')",
        "variance_scaling(2, 'fan_in', 'normal')",
    ),
    Equivalent("he_truncated_normal", "", "HeNormal()", "he_normal()"),
    Equivalent("he_uniform", "kaiming_uniform_(w)", "HeUniform()", "he_uniform()"),
    Equivalent(
        "he_uniform(nonlinearity='leaky_relu', slope=2.23606797749979)",
        "kaiming_uniform_(w, a=math.sqrt(5))",
        "VarianceScaling(1/3, 'fan_in', 'uniform')",
        "variance_scaling(1/3, 'fan_in', 'uniform')",
    ),
    aliases=("kaiming", "msra"),
)
def he(
    kind: Kind, /, gain: Gain = None, mode: Mode = "fan_in", nonlinearity: Nonlinearity = None, slope: Slope = None
) -> Law:
    """Here std = gain / sqrt(fan), gain = calculate_gain(nonlinearity, slope), or sqrt(2) where neither is given.

    Source: He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", arXiv:1502.01852

    Differs: Keras and JAX give the name he_normal to he_truncated_normal; here, in torch and in the paper it is not
    truncated. kaiming_uniform_ with a = sqrt(5) is the default of torch.nn.Linear: U(-b, b), b = 1 / sqrt(fan_in).
    Complex kaiming_uniform_ fills a square with sqrt(2) times the rms of here and of JAX, which is std
    """
    if nonlinearity is None:
        if slope is not None:
            raise ValueError(f"slope needs nonlinearity='leaky_relu' or 'prelu', got {slope} without a nonlinearity")
        factor = math.sqrt(2.0) if gain is None else gain
    elif gain is not None:
        raise ValueError(f"gain must be left out where a nonlinearity sets it, got {gain} and {nonlinearity!r}")
    else:
        factor = calculate_gain(nonlinearity, slope)
    return _scale_by_fan(lambda fan: factor / math.sqrt(fan), mode, kind)


@register_family(
    _FORMULAS,
    Equivalent(
        "xavier_normal",
        "xavier_normal_(w)",
        "VarianceScaling(1, 'fan_avg', 'untruncated_normal')",
        "variance_scaling(1, 'fan_avg', 'normal')",
    ),
    Equivalent("xavier_truncated_normal", "", "GlorotNormal()", "glorot_normal()"),
    Equivalent("xavier_uniform", "xavier_uniform_(w)", "GlorotUniform()", "glorot_uniform()"),
    aliases=("glorot",),
)
def xavier(kind: Kind, /, gain: NotNegative = 1.0, mode: Mode = "fan_avg") -> Law:
    """Here std = gain / sqrt(fan).

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks"

    Differs: Keras and JAX give the name glorot_normal to xavier_truncated_normal. Complex xavier_uniform_ fills a
    square with sqrt(2) times the rms of here and of JAX, which is std
    """
    return _scale_by_fan(lambda fan: gain / math.sqrt(fan), mode, kind)


@register_family(
    _FORMULAS,
    Equivalent(
        "lecun_normal",
        "kaiming_normal_(w, nonlinearity='linear')",
        "VarianceScaling(1, 'fan_in', 'untruncated_normal')",
        "variance_scaling(1, 'fan_in', 'normal')",
    ),
    Equivalent("lecun_truncated_normal", "", "LecunNormal()", "lecun_normal()"),
    Equivalent("lecun_uniform", "kaiming_uniform_(w, nonlinearity='linear')", "LecunUniform()", "lecun_uniform()"),
)
def lecun(kind: Kind, /, mode: Mode = "fan_in") -> Law:
    """Here std = 1 / sqrt(fan).

    Source: LeCun, Bottou, Orr and Müller 1998, "Efficient BackProp"

    Differs: Keras and JAX give the name lecun_normal to lecun_truncated_normal
    """
    return _scale_by_fan(lambda fan: 1.0 / math.sqrt(fan), mode, kind)


# Whose elements depend on each other: matrices, convolution kernels


@register(
    Equivalent("orthogonal", "orthogonal_(w)", "Orthogonal()", "orthogonal()"),
    Equivalent("orthogonal(gain=1.5)", "orthogonal_(w, gain=1.5)", "Orthogonal(gain=1.5)", "orthogonal(1.5)"),
)
def orthogonal(gain: Finite = 1.0) -> Law:
    """Haar-distributed: a matrix of all other axes by `out_axis`, its shorter side orthonormal, times gain.

    Source: Saxe, McClelland and Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", arXiv:1312.6120; Stewart 1980, "The efficient generation of random orthogonal matrices"

    Differs: others take the Q of a QR decomposition by LAPACK, whose bits change with its version, threads and CPU
    """
    return Orthogonal(gain) if gain != 0.0 else Constant(0.0)


@register(
    Equivalent("delta_orthogonal", jax="delta_orthogonal()"),
)
def delta_orthogonal(gain: Finite = 1.0) -> Law:
    """A convolution kernel of 1 to 3 dimensions: at its centre `orthogonal`, 0 elsewhere; needs fan_in <= fan_out.

    Source: Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018, "Dynamical Isometry and a Mean Field Theory of
    CNNs", arXiv:1806.05393
    """
    return DeltaOrthogonal(gain) if gain != 0.0 else Constant(0.0)


@register(aliases=("conv_orthogonal",))
def convolution_orthogonal(gain: Finite = 1.0) -> Law:
    """A kernel of 1 to 3 dimensions whose (circular) convolution keeps the norm, times gain; needs fan_in <= fan_out.

    Source: Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018, "Dynamical Isometry and a Mean Field Theory of
    CNNs", arXiv:1806.05393, algorithm 1; TensorFlow 1's ConvolutionOrthogonal1D, 2D and 3D
    """
    return ConvolutionOrthogonal(gain) if gain != 0.0 else Constant(0.0)


@register(
    Equivalent("identity", "eye_(w)", "Identity()"),
    Equivalent("identity(gain=0.5)", keras="Identity(gain=0.5)"),
    aliases=("eye",),
)
def identity(gain: Finite = 1.0) -> Law:
    """Gain on the diagonal of a matrix, 0 elsewhere.

    Source: Le, Jaitly and Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units",
    arXiv:1504.00941
    """
    return Identity(gain) if gain != 0.0 else Constant(0.0)


@register(Equivalent("dirac", "dirac_(w)"), Equivalent("dirac(groups=2)", "dirac_(w, groups=2)"))
def dirac(groups: Count = 1) -> Law:
    """A kernel of 1 to 3 dimensions that hands inputs through: 1 at the centre, for output k of each group and input k.

    Source: Zagoruyko and Komodakis 2017, "DiracNets", arXiv:1706.00388
    """
    return Dirac(groups)


@register(Equivalent("sparse(0.1)", "sparse_(w, 0.1)"), Equivalent("sparse(0.9, std=1.0)", "sparse_(w, 0.9, std=1.0)"))
def sparse(sparsity: Proportion, std: NotNegative = 0.01, per: Per = "in") -> Law:
    """N(0, std^2), but 0 at ceil(sparsity n) of the n weights of every input (per="in") or output (per="out").

    Source: Martens 2010, "Deep learning via Hessian-free optimization"

    Differs: torch empties the weights of each input, MLX and the paper those of each output
    """
    if std == 0.0:
        return Constant(0.0)
    return Sparse(sparsity, std, per) if sparsity > 0.0 else Normal(0.0, std)


# Values that are given, each where it stands


@record
class ShapedValues(ShapeLaw):
    """Values that are given, arranged for the shape."""

    arrange: Callable[[Layout], GivenValues | Bilinear]
    draws: ClassVar[bool] = False

    def distribution(self, layout: Layout) -> Distribution:
        """The values for this shape."""
        return self.arrange(layout)


@register(aliases=("assign",))
def array(values: Values) -> Law:
    """The values of an array, which broadcasts to the shape as NumPy's do: from the last axis on."""
    sizes, numbers = shape_of_array(values), leaves_of_array(values)

    def arrange(layout: Layout) -> GivenValues:
        spread = (1,) * (len(layout.shape) - len(sizes)) + sizes
        if len(spread) != len(layout.shape) or any(
            size not in (1, whole) for size, whole in zip(spread, layout.shape, strict=True)
        ):
            raise ValueError(f"values must broadcast to shape {quote(layout.shape)}, got an array of shape {sizes}")
        return GivenValues(spread, numbers)

    return ShapedValues(arrange)


@register(aliases=("bilinear_upsampling",))
def bilinear() -> Law:
    """A kernel that interpolates: product over its 1 to 3 axes of 1 - abs(k/f - c), f = ceil(size/2), c = 1-(1+f%2)/2f.

    Source: Long, Shelhamer and Darrell 2015, "Fully Convolutional Networks for Semantic Segmentation", arXiv:1411.4038;
    MXNet's and Paddle's Bilinear
    """

    def arrange(layout: Layout) -> Bilinear:
        ins, outs, batch = layout.roles()
        kernel = [axis for axis in range(len(layout.shape)) if axis not in (*ins, *outs, *batch)]
        if not 1 <= len(kernel) <= 3:
            raise ValueError(
                f"bilinear: shape must have 1 to 3 kernel axes, got {len(kernel)} in {quote(layout.shape)}"
            )
        return Bilinear(tuple(size if axis in kernel else 1 for axis, size in enumerate(layout.shape)))

    return ShapedValues(arrange)


@register(aliases=("unit_forget_gate",))
def lstm_bias(forget: Finite = 1.0, order: GateOrder = "ifgo") -> Law:
    """The bias of an LSTM's four gates along `out_axis`: forget for the gate f, 0 for the others.

    Source: Jozefowicz, Zaremba and Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    torch, Keras (which writes ifco), MXNet and cuDNN have the order "ifgo", ONNX "iofg"; torch adds two biases:
    fill one
    """

    def arrange(layout: Layout) -> GivenValues:
        rank = len(layout.shape)
        outs = (rank - 1,) if rank == 1 else layout.roles()[1]
        if len(outs) != 1 or layout.shape[outs[0]] % 4:
            raise ValueError(f"lstm_bias: shape must have four gates along out_axis, got {quote(layout.shape)}")
        spread = tuple(4 if axis == outs[0] else 1 for axis in range(rank))
        return GivenValues(spread, tuple(forget if gate == "f" else 0.0 for gate in order))

    return ShapedValues(arrange)


# Embeddings: the first axis (after batch axes) counts them, the others are the vector of one


@record
class EmbeddingScaled(ShapeLaw):
    """A distribution that depends on how many embeddings there are, and on the width of one."""

    make: Callable[[float, float], Distribution]

    def distribution(self, layout: Layout) -> Distribution:
        """The distribution for this shape."""
        batch = layout.batch()
        sizes = [size for axis, size in enumerate(layout.shape) if axis not in batch]
        if not sizes:
            raise ValueError(f"shape must have an axis that counts the embeddings, got {quote(layout.shape)}")
        try:
            return self.make(float(max(1, sizes[0])), float(max(1, math.prod(sizes[1:]))))
        except OverflowError:
            raise ValueError(f"shape must have sizes within float64, got {quote(layout.shape)}") from None


@register()
def embedding_uniform() -> Law:
    """U(-b, b), b = 1 / sqrt(number of embeddings): the size of the first axis that is no batch axis.

    Source: Naumov et al. 2019, "Deep Learning Recommendation Model", arXiv:1906.00091; TorchRec's default
    """
    return EmbeddingScaled(lambda count, width: Uniform(-1.0 / math.sqrt(count), 1.0 / math.sqrt(count)))


@register(Equivalent("embedding_normal", jax="variance_scaling(1, 'fan_in', 'normal', out_axis=0)"))
def embedding_normal() -> Law:
    """N(0, 1 / width), width the size of one embedding: the product of all axes but the first and the batch axes.

    Source: Flax's default for nn.Embed
    """
    return EmbeddingScaled(lambda count, width: Normal(0.0, 1.0 / math.sqrt(width)))


# Depth and width: what keeps very deep or wide networks trainable


@register()
def residual_normal(layers: Count, std: NotNegative = 0.02) -> Law:
    """N(0, std^2 / (2 layers)): for the weights that write into the residual stream of a transformer of so many layers.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2); Megatron-LM
    """
    return normal(0.0, std / math.sqrt(2.0 * layers))


@register()
def fixup(layers: Count, depth: Count = 2, mode: Mode = "fan_in", distribution: Kind = "normal") -> Law:
    """He's, times layers^(-1 / (2 depth - 2)), for layers residual branches of depth weights, the last of each zeros.

    Source: Zhang, Dauphin and Ma 2019, "Fixup Initialization", arXiv:1901.09321
    """
    if depth < 2:
        raise ValueError(f"depth must be >= 2: the last weight of a branch is zeros, got {depth}")
    return he(distribution, math.sqrt(2.0) * _inverse_root(layers, 2 * depth - 2), mode)


@register()
def t_fixup(layers: Count, coder: Coder = "decoder", mode: Mode = "fan_avg", distribution: Kind = "uniform") -> Law:
    """Xavier's, times (9 layers)^(-1/4) in a decoder and 0.67 layers^(-1/4) in an encoder: values, outputs, MLPs.

    Source: Huang, Perez, Ba and Volkovs 2020, "Improving Transformer Optimization Through Better Initialization"
    """
    gain = _inverse_root(9 * layers, 4) if coder == "decoder" else 0.67 * _inverse_root(layers, 4)
    return xavier(distribution, gain, mode)


@register()
def deepnet(
    encoder: CountOrNone = 0,
    decoder: CountOrNone = 0,
    coder: CoderOrNone = None,
    mode: Mode = "fan_avg",
    distribution: Kind = "normal",
) -> Law:
    """Xavier's, times (8 n)^(-1/4) (one coder), (12 decoder)^(-1/4) or 0.87 (encoder^4 decoder)^(-1/16): values, MLPs.

    Source: Wang, Ma, Dong, Huang, Zhang and Wei 2022, "DeepNet: Scaling Transformers to 1,000 Layers", arXiv:2203.00555
    """
    if encoder == decoder == 0:
        raise ValueError(f"encoder or decoder must be a number of layers, got {encoder} and {decoder}")
    only = "decoder" if encoder == 0 else "encoder" if decoder == 0 else None
    if coder is None and only is None:
        raise ValueError(
            f"coder must be 'encoder' or 'decoder' where there are layers of both, got {encoder}, {decoder}"
        )
    if coder is not None and only is not None and coder != only:
        raise ValueError(f"coder must be {only!r}, which alone has layers, got {coder!r}")
    if only is not None:
        gain = _inverse_root(8 * (encoder or decoder), 4)
    elif coder == "decoder":
        gain = _inverse_root(12 * decoder, 4)
    else:
        gain = 0.87 * _inverse_root(encoder**4 * decoder, 16)
    return xavier(distribution, gain, mode)


def _inverse_root(base: int, degree: int) -> float:
    """base^(-1 / degree), rounded once."""
    from fractions import Fraction

    from winit_fast.exact import power  # with decimal, not imported with the package

    return power(base, Fraction(-1, degree))


@register()
def mup(base_fan: Count, std: NotNegative = 0.02, place: Role = "hidden", distribution: Kind = "normal") -> Law:
    """Around 0 with std times (fan_in / base_fan)^-1/2 in hidden weights, ^-1 in output and ^0 in input weights.

    Source: Yang et al. 2022, "Tensor Programs V", arXiv:2203.03466, table 3: std was found at a width of base_fan
    """
    std_of_role: dict[str, Callable[[float], float]] = {
        "input": lambda fan: std,
        "hidden": lambda fan: std * math.sqrt(base_fan / fan),
        "output": lambda fan: std * (base_fan / fan),
    }
    return _scale_by_fan(std_of_role[place], "fan_in", distribution)
