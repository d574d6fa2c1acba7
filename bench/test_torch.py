"""Tensors of torch: init_ against torch.nn.init in a large buffer and in a small weight, and models built by others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import pytest
from peers import Method

torch = pytest.importorskip("torch")

import winit_fast  # noqa: E402
from winit_fast import adapters  # noqa: E402

THREADS = 2

# group: element type, torch's call, our scheme. A matrix has rows of 1024.
FILLS = {
    "uniform float32": ("float32", lambda w: torch.nn.init.uniform_(w), "uniform"),
    "normal float32": ("float32", lambda w: torch.nn.init.normal_(w), "normal"),
    "normal bfloat16": ("bfloat16", lambda w: torch.nn.init.normal_(w), "normal"),
    "truncated normal float32": ("float32", lambda w: torch.nn.init.trunc_normal_(w), "truncated_normal"),
    "xavier_uniform float32": ("float32", lambda w: torch.nn.init.xavier_uniform_(w), "xavier_uniform"),
    "xavier_normal float32": ("float32", lambda w: torch.nn.init.xavier_normal_(w), "xavier_normal"),
    "kaiming_uniform float32": ("float32", lambda w: torch.nn.init.kaiming_uniform_(w), "he_uniform"),
    "kaiming_normal float32": ("float32", lambda w: torch.nn.init.kaiming_normal_(w), "he_normal"),
}


def tensor_of(buffer: np.ndarray) -> Any:
    return torch.from_numpy(buffer.view(np.uint8)).view(getattr(torch, buffer.dtype.name)).view(-1, 1024)


def ours(scheme: str, isa: str) -> Method:
    def bind(buffer: np.ndarray) -> Callable[[], Any]:
        weight = tensor_of(buffer)
        return lambda: adapters.torch.init_(weight, scheme, seed=peers.SEED, name="layers.0.weight", threads=THREADS)

    return Method(f"winit_fast {isa}", bind, THREADS, isa)


def theirs(fill: Callable[[Any], Any], share: float) -> Method:
    def bind(buffer: np.ndarray) -> Callable[[], Any]:
        weight = tensor_of(buffer)
        torch.set_num_threads(THREADS)
        return lambda: fill(weight)

    return Method("torch", bind, THREADS, share=share)


@pytest.mark.parametrize("isa", [*peers.ISAS, None])
@pytest.mark.parametrize("name", FILLS)
def test_init(benchmark, measure, memory, megabytes, name, isa):
    """As many elements of each type; without an ISA it is torch's turn, and the slow one's buffer is an eighth."""
    benchmark.group = f"torch.nn.init {name}"
    dtype, fill, scheme = FILLS[name]
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    elements = megabytes << 18
    buffer = memory[: elements * np.dtype(dtype).itemsize].view(dtype)
    measure(theirs(fill, 1 / 8 if "truncated" in name else 1.0) if isa is None else ours(scheme, isa), buffer)


@pytest.mark.benchmark(group="torch.nn.init 64 x 64")
@pytest.mark.parametrize("method", ["winit_fast", "winit_fast.fill", "torch"])
def test_small_init(benchmark, method):
    """One weight: beside torch's, and beside `fill` of the same memory."""
    weight = torch.nn.Parameter(torch.empty(64, 64))
    array = weight.detach().numpy()
    torch.set_num_threads(THREADS)
    benchmark.extra_info.update(method=method, threads=THREADS, isa=None, elements=weight.numel())
    arguments = {"seed": peers.SEED, "name": "layers.0.weight"}
    fill = {
        "winit_fast": lambda: adapters.torch.init_(weight, "he_normal", **arguments),
        "winit_fast.fill": lambda: winit_fast.fill(array, "he_normal", in_axis=1, out_axis=0, **arguments),
        "torch": lambda: torch.nn.init.kaiming_normal_(weight),
    }
    fill[method]()  # the first call reads the scheme, and decides how many rounds there are
    benchmark(fill[method])


def stack(count: int) -> Any:
    """So many layers of 16 x 16, a hundred in a block."""
    layers = [torch.nn.Linear(16, 16, bias=False) for _ in range(count)]
    return torch.nn.Sequential(*[torch.nn.Sequential(*layers[i : i + 100]) for i in range(0, count, 100)])


@pytest.mark.benchmark(group="torch, 20,000 parameters of 16 x 16")
@pytest.mark.parametrize("method", ["winit_fast", "materialize_", "torch"])
def test_small_parameters(benchmark, megabytes, method):
    """A model of many small parameters, where it stands and from the meta device, beside a loop of torch.nn.init."""
    count = 20_000 if megabytes >= 256 else 500
    torch.set_num_threads(THREADS)
    benchmark.extra_info.update(method=method, threads=THREADS, isa=None, elements=count * 256, parameters=count)
    with torch.device("meta" if method == "materialize_" else "cpu"):
        model = stack(count)

    def loop(model: Any) -> None:
        for parameter in model.parameters():
            torch.nn.init.kaiming_normal_(parameter)

    run = {
        "winit_fast": lambda model: adapters.torch.init_module_(model, {"*.weight": "he_normal"}, seed=peers.SEED),
        "materialize_": lambda model: adapters.torch.materialize_(model, {"*.weight": "he_normal"}, seed=peers.SEED),
        "torch": loop,
    }

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (model.to("meta") if method == "materialize_" else model,), {}

    benchmark.pedantic(run[method], setup=setup, rounds=10, warmup_rounds=1)


def gpt2(transformers: Any, is_small: bool) -> Any:
    size = {"n_embd": 64, "n_layer": 2, "n_head": 2} if is_small else {"n_embd": 1024, "n_layer": 24, "n_head": 16}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**size))


def llama(transformers: Any, is_small: bool) -> Any:
    """The 1.2 billion parameters of Llama 3.2 1B."""
    config = transformers.LlamaConfig(
        vocab_size=1000 if is_small else 128_256,
        hidden_size=64 if is_small else 2048,
        intermediate_size=256 if is_small else 8192,
        num_hidden_layers=2 if is_small else 16,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("method", ["winit_fast", "materialize_", "torch", "skip and fill", "skip and draw"])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_model(benchmark, megabytes, monkeypatch, make, method):
    """A model of transformers from its config, under accelerate and without, and from the meta device.

    Beside it, what it is made of: the model without its draws, and one fill of as many new bytes. Its own code draws
    most weights two to four times, so there is a second one: all these draws, into new memory of the same shapes.
    """
    transformers = pytest.importorskip("transformers")
    benchmark.group = f"transformers {make.__name__}"
    torch.set_num_threads(THREADS)
    is_small = megabytes < 256

    def build() -> int:
        return sum(math.prod(parameter.shape) for parameter in make(transformers, is_small).parameters())

    def materialize() -> int:
        with torch.device("meta"):
            model = make(transformers, is_small)
        adapters.torch.materialize_(model, "hf", seed=peers.SEED, threads=THREADS)
        return sum(math.prod(parameter.shape) for parameter in model.parameters())

    def accelerated(skip: bool = False) -> int:
        with adapters.torch.accelerate(seed=peers.SEED, threads=THREADS, skip=skip):
            return build()

    def fill() -> int:
        elements = accelerated(skip=True)
        adapters.torch.init_(torch.empty(elements), "normal", seed=peers.SEED, threads=THREADS)
        return elements

    drawn: list[tuple[int, Any, str]] = []

    def draw() -> int:
        tensors: dict[Any, Any] = {}
        for name, (place, shape, scheme) in enumerate(drawn):
            if (place, shape) not in tensors:
                tensors[place, shape] = torch.empty(shape)
            adapters.torch.init_(tensors[place, shape], scheme, seed=peers.SEED, name=name, threads=THREADS)
        return accelerated(skip=True)

    if method == "skip and draw":
        with monkeypatch.context() as patch:

            def note(tensor: Any, scheme: str, **keywords: Any) -> Any:
                drawn.append((tensor.data_ptr(), tuple(tensor.shape), scheme))
                return tensor

            patch.setattr("winit_fast.adapters.torch.acceleration.init_", note)
            accelerated()
        del drawn[0]  # by which accelerate reads its arguments
    runs = {"winit_fast": accelerated, "materialize_": materialize, "torch": build}
    run = (runs | {"skip and fill": fill, "skip and draw": draw})[method]
    elements = benchmark.pedantic(run, rounds=3, iterations=1, warmup_rounds=1 if is_small else 0)
    benchmark.extra_info.update(method=method, threads=THREADS, isa=None, elements=elements)
