"""One model: rules by name and kind of layer, from the meta device directly to initialized memory."""

import torch
from torch import nn

from winit_fast import adapters
from winit_fast.adapters.torch import Rule

RULES = [
    Rule("head.weight", "zeros"),
    Rule("*.weight", "he_normal(mode='fan_out')", of=nn.Conv2d),
    Rule("*.weight", "ones", of=nn.BatchNorm2d),
    Rule("*.bias", "zeros"),
]


class Network(nn.Module):
    """A small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 128, 3))
        self.head = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return a score for each class."""
        return self.head(self.features(images).mean((2, 3)))


def main() -> None:
    """Build the network on the meta device, then allocate and fill one parameter after another."""
    with torch.device("meta"):
        network = Network()
    print(adapters.torch.materialize_(network, RULES, seed=7))
    print(network(torch.randn(8, 3, 32, 32)).shape)


if __name__ == "__main__":
    main()
