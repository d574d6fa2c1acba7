"""An unchanged Hugging Face model: `accelerate` makes its constructor draw with several threads.

``python examples/torch_hugging_face.py`` builds a Llama of 100M parameters with and without `accelerate`, and compares
times and distributions.
"""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from winit_fast import adapters

CONFIG = LlamaConfig(
    vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=12
)


def main() -> None:
    """Build the model three times as it is, and three times inside `accelerate`."""
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(3):
        start = time.perf_counter()
        theirs = LlamaForCausalLM(CONFIG)
        middle = time.perf_counter()
        with adapters.torch.accelerate(seed=0):
            ours = LlamaForCausalLM(CONFIG)
        seconds["without"].append(middle - start)
        seconds["with"].append(time.perf_counter() - middle)

    best = ", ".join(f"{min(times):.2f} s {way}" for way, times in seconds.items())
    print(f"{ours.num_parameters() / 1e6:.0f}M parameters, the fastest of three: {best}")
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"):
        stds = [model.get_parameter(name).std().item() for model in (theirs, ours)]
        print(f"{name:34} std {stds[0]:.4f} without, {stds[1]:.4f} with")
    with adapters.torch.accelerate(seed=0):
        again = LlamaForCausalLM(CONFIG)
    print("the same seed, the same bits:", all(map(torch.equal, ours.parameters(), again.parameters())))


if __name__ == "__main__":
    main()
