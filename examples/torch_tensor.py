"""One tensor: an embedding table in bfloat16, and a shard of it with the same bits."""

import torch

from winit_fast import adapters

VOCABULARY, WIDTH = 128_256, 1024


def main() -> None:
    """Fill the table, then only its last quarter, and compare."""
    table = torch.empty(VOCABULARY, WIDTH, dtype=torch.bfloat16)
    adapters.torch.init_(table, "normal(std=0.02)", seed=7, name="tokens.weight")

    first = VOCABULARY * 3 // 4
    shard = torch.empty(VOCABULARY - first, WIDTH, dtype=torch.bfloat16)
    adapters.torch.init_(shard, "normal(std=0.02)", seed=7, name="tokens.weight", shape=table.shape, offset=(first, 0))
    print(f"std {table.float().std():.4f}; the shard has the table's bits: {torch.equal(shard, table[first:])}")


if __name__ == "__main__":
    main()
