"""FSDP2: every rank fills its own part of a model, and the parts have the bits of the unsharded model.

Run ``torchrun --nproc-per-node 2 examples/torch_fsdp2.py``. Any number of ranks gives the same weights.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor

from winit_fast import adapters


def build() -> nn.Module:
    """Build a model without memory."""
    with torch.device("meta"):
        return nn.Sequential(nn.Embedding(5000, 256), nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))


def main() -> None:
    """Shard the model, allocate and fill this rank's part, and compare it with the whole model."""
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = build()
    for layer in model.children():
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    adapters.torch.materialize_(model, "torch", seed=7, device="cpu")

    whole = build()
    adapters.torch.materialize_(whole, "torch", seed=7, device="cpu")
    for (name, parameter), expected in zip(model.named_parameters(), whole.parameters(), strict=True):
        # Each rank compares its own part: with src_data_rank=None no rank sends anything.
        part = distribute_tensor(expected, mesh, parameter.placements, src_data_rank=None).to_local()
        held, is_same = tuple(part.shape), torch.equal(parameter.to_local(), part)
        print(f"{name}: rank {dist.get_rank()} holds {held} of {tuple(parameter.shape)}; the whole's bits: {is_same}")
    dist.barrier()  # no rank leaves while another still talks to it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
