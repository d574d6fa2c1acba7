"""Models for adapters.torch.check."""

from torch import nn

from winit_fast import adapters


def deep(weights, activation=nn.ReLU, depth=20, width=64, seed=7):
    """Hidden layers, each with its activation, and a linear one behind them."""
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    model = nn.Sequential(*hidden, nn.Linear(width, 10))
    adapters.torch.init_module_(model, {"*.weight": weights, "*.bias": "zeros"}, seed=seed)
    return model


def batch(*shape):
    return adapters.torch.init(shape, "normal", seed=1, name="batch")
