"""An unchanged model of Hugging Face's: what its constructor draws, drawn by several threads.

``python examples/torch_hugging_face.py`` builds a Llama of 100M parameters twice and compares times and distributions.
"""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from winit_fast import adapters

CONFIG = LlamaConfig(
    vocab_size=32_000, hidden_size=768, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=12
)


def main() -> None:
    """Build the model as it is, and again inside of `accelerate`."""
    start = time.perf_counter()
    theirs = LlamaForCausalLM(CONFIG)
    middle = time.perf_counter()
    with adapters.torch.accelerate(seed=0):
        ours = LlamaForCausalLM(CONFIG)
    end = time.perf_counter()

    print(f"{ours.num_parameters() / 1e6:.0f}M parameters: {middle - start:.2f} s without, {end - middle:.2f} s with")
    for name in ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"):
        stds = [model.get_parameter(name).std().item() for model in (theirs, ours)]
        print(f"{name:34} std {stds[0]:.4f} without, {stds[1]:.4f} with")
    with adapters.torch.accelerate(seed=0):
        again = LlamaForCausalLM(CONFIG)
    print("the same seed, the same bits:", all(map(torch.equal, ours.parameters(), again.parameters())))


if __name__ == "__main__":
    main()
