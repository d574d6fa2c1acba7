"""TorchRec: embedding tables split by rows, by columns and not at all, each with the bits of the whole table.

Run ``torchrun --nproc-per-node 2 examples/torch_tables.py``. It needs torch, torchrec and fbgemm-gpu-cpu.
"""

import gc

import torch
import torch.distributed as dist
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig
from torchrec.distributed import DistributedModelParallel, sharding_plan
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.types import ShardingEnv, ShardingPlan

from winit_fast import adapters

SCHEME = "normal(std=0.01)"
SHAPES = {"user_id": (100_000, 64), "item_id": (50_000, 64), "country": (250, 64)}


def main() -> None:
    """Shard the tables by a plan, fill the shards in place, and compare them with the whole tables."""
    dist.init_process_group("gloo")
    world = dist.get_world_size()
    configs = [
        EmbeddingBagConfig(
            name=name, num_embeddings=shape[0], embedding_dim=shape[1], feature_names=[name],
            init_fn=adapters.torch.torchrec_init_fn(SCHEME, shape, seed=7, name=name),
        )
        for name, shape in SHAPES.items()
    ]  # fmt: skip
    tables = EmbeddingBagCollection(configs, device=torch.device("meta"))
    sharder = EmbeddingBagCollectionSharder()
    split = {
        "user_id": sharding_plan.row_wise(),
        "item_id": sharding_plan.column_wise(ranks=list(range(world))),
        "country": sharding_plan.table_wise(rank=world - 1),
    }
    plan = sharding_plan.construct_module_sharding_plan(
        tables, split, local_size=world, world_size=world, device_type="cpu", sharder=sharder
    )
    model = DistributedModelParallel(
        torch.nn.ModuleDict({"tables": tables}),
        env=ShardingEnv.from_process_group(dist.group.WORLD),
        device=torch.device("cpu"),
        plan=ShardingPlan(plan={"tables": plan}),
        sharders=[sharder],
    )
    for name, shape in SHAPES.items():
        # TorchRec calls the init_fn with shards and does not say where they stand; this gives them the whole's bits.
        table = model.state_dict()[f"tables.embedding_bags.{name}.weight"]
        adapters.torch.init_sharded_(table, SCHEME, seed=7, name=name)
        whole = adapters.torch.init(shape, SCHEME, seed=7, name=name)
        for shard in table.local_shards():
            (row, column), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
            is_same = torch.equal(shard.tensor, whole[row : row + rows, column : column + columns])
            print(f"{name}: rank {dist.get_rank()} holds {rows} x {columns} of {shape}; the whole's bits: {is_same}")
    dist.barrier()  # no rank leaves while another still talks to it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    gc.collect()  # gloo's threads go with the model: while Python ends, PyTorch may abort if they still hold a tensor
