"""Does initialization matter? Thirty layers learn to read digits, with eleven schemes, with ReLU and with tanh.

``python examples/training.py --picture examples/training.svg`` takes about two minutes on one core. It needs torch,
scikit-learn and matplotlib. The network has no batch normalization and no residuals, which would hide the difference.
Plain SGD without momentum has one learning rate for each activation, the same for all schemes.
"""

from __future__ import annotations

import argparse
import math
from statistics import fmean, median

import matplotlib
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from winit_fast import adapters

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator

DEPTH, WIDTH, BATCH = 30, 100, 32
ACTIVATIONS = {"ReLU": (nn.ReLU, 0.003), "tanh": (nn.Tanh, 0.01)}  # and their learning rates
TEST_IMAGES = 450  # of 1797
LOWEST = 0.006  # loss in the picture
# Okabe and Ito's palette, for colour-blind readers too: one colour for each family, one line style for each member.
SCHEMES = {
    "zeros": ("#000000", "-"),
    "normal(std=1)": ("#CC79A7", "-"),
    "normal(std=0.01)": ("#CC79A7", "--"),
    "uniform(-0.05, 0.05)": ("#000000", ":"),
    "lecun_normal": ("#E69F00", "-."),
    "xavier_normal": ("#56B4E9", "-"),
    "xavier_uniform": ("#56B4E9", "--"),
    "he_normal": ("#D55E00", "-"),
    "he_uniform": ("#D55E00", "--"),
    "orthogonal": ("#009E73", "-"),
    "orthogonal(gain=1.414)": ("#009E73", "--"),
}


def build_network(activation: type[nn.Module]) -> nn.Sequential:
    """Build linear layers with activations between them."""
    sizes = [64, *[WIDTH] * (DEPTH - 1), 10]
    layers = [layer for i in range(DEPTH) for layer in (nn.Linear(sizes[i], sizes[i + 1]), activation())]
    return nn.Sequential(*layers[:-1])


def load_images() -> tuple[Tensor, Tensor]:
    """Return images with mean 0 and variance 1 over all pixels, and their labels, in a fixed random order."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor((images - images.mean()) / images.std(), dtype=torch.float32)
    return pixels[order], torch.tensor(labels)[order]


def train(activation: str, scheme: str, seed: int, epochs: int) -> tuple[list[float], float]:
    """Return the loss before the first step and its mean in each epoch, until it overflows, and the test accuracy."""
    images, labels = load_images()
    kind, rate = ACTIVATIONS[activation]
    model = build_network(kind)
    adapters.torch.init_module_(model, {"*.weight": scheme, "*.bias": "zeros"}, seed=seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    shuffling = torch.Generator().manual_seed(seed)
    history = []
    while len(history) <= epochs and all(map(math.isfinite, history)):
        losses = []
        for batch in (torch.randperm(len(labels) - TEST_IMAGES, generator=shuffling) + TEST_IMAGES).split(BATCH):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history += [sum(losses) / len(losses)] if history else [losses[0], sum(losses) / len(losses)]
    with torch.no_grad():
        outputs = model(images[:TEST_IMAGES])
    is_right = (outputs.argmax(1) == labels[:TEST_IMAGES]) & outputs.isfinite().all(1)  # nan is no answer
    return history, is_right.float().mean().item()


def draw(axes: plt.Axes, curves: dict[str, list[list[float]]], names: dict[str, str]) -> None:
    """Draw each seed as a thin line and their median as a thick one, with its name; a cross marks an overflow."""
    epochs = max(len(history) for histories in curves.values() for history in histories) - 1
    axes.set(yscale="log", ylim=(LOWEST, 40), xlim=(0, epochs), xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.annotate("guessing", (epochs, math.log(10)), (-3, 3), textcoords="offset points", ha="right")
    ends = {}
    for scheme, histories in curves.items():
        colour, style = SCHEMES[scheme]
        finite = [[value for value in history if math.isfinite(value)] for history in histories]
        for history in finite:
            axes.plot(history, color=colour, linewidth=0.5, alpha=0.35)
        middle = [median(values) for values in zip(*finite, strict=False)]
        axes.plot(middle, style, color=colour, linewidth=2)
        if len(middle) > epochs:
            ends[scheme] = max(middle[-1], LOWEST)
            continue
        last = (len(middle) - 1, min(middle[-1], 30))
        axes.plot(*last, "x", color=colour, markersize=9, markeredgewidth=2.5, clip_on=False)
        words = f"{scheme}: a loss of {middle[-1]:.0e}, then overflow"
        axes.annotate(words, last, (9, 0), textcoords="offset points", va="center", fontsize=8)
    label_ends(axes, ends, names)


def label_ends(axes: plt.Axes, ends: dict[str, float], names: dict[str, str]) -> None:
    """Write names to the right of the panel, as near as possible to the ends of their curves, with lines to them."""
    low, high = map(math.log10, axes.get_ylim())
    heights = {scheme: (math.log10(ends[scheme]) - low) / (high - low) for scheme in sorted(ends, key=ends.__getitem__)}
    groups: list[list[float]] = []  # names that would overlap are centred on the mean of their ends
    for height in heights.values():
        groups.append([height])
        while len(groups) > 1 and fmean(groups[-1]) - fmean(groups[-2]) < 0.026 * sum(map(len, groups[-2:])):
            groups[-2:] = [groups[-2] + groups[-1]]
    places = [fmean(group) + 0.052 * (i - (len(group) - 1) / 2) for group in groups for i in range(len(group))]
    for (scheme, height), place in zip(heights.items(), places, strict=True):
        colour, style = SCHEMES[scheme]
        line = ([1, 1.03, 1.12], [height, place, place])
        axes.plot(*line, style, color=colour, linewidth=1.5, transform=axes.transAxes, clip_on=False)
        axes.text(1.135, place, names[scheme], transform=axes.transAxes, va="center", fontsize=8)


def main() -> None:
    """Train with every scheme and both activations, print the results, and draw the loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3, help="how many times each network is trained")
    parser.add_argument("--picture", metavar="FILE", help="where to draw the loss: .svg or .png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the layers are too small for more
    torch.set_flush_denormal(True)  # subnormal numbers make CPUs several times slower

    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "svg.hashsalt": "winit_fast"})
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.6), sharey=True, layout="constrained")
    for (activation, (_, rate)), axes in zip(ACTIVATIONS.items(), panels, strict=True):
        print(f"{activation}, learning rate {rate}: medians of {arguments.seeds} seeds")
        print(f"{'scheme':24}{'train loss':>12}{'test accuracy':>16}   (lowest to highest)")
        curves, names = {}, {}
        for scheme in SCHEMES:
            runs = [train(activation, scheme, seed, arguments.epochs) for seed in range(arguments.seeds)]
            curves[scheme] = [history for history, _ in runs]
            loss = median(history[-1] if math.isfinite(history[-1]) else math.inf for history in curves[scheme])
            right = [100 * accuracy for _, accuracy in runs]
            names[scheme] = f"{scheme}  {median(right):.0f} %"
            ending = f"{loss:.4f}" if math.isfinite(loss) else "not finite"
            spread = f"({min(right):.1f} to {max(right):.1f})"
            print(f"{scheme:24}{ending:>12}{median(right):>14.1f} %   {spread}", flush=True)
        draw(axes, curves, names)
        axes.set_title(f"{activation}, learning rate {rate}", loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training loss (cross-entropy)")
    figure.suptitle(
        f"{DEPTH} layers of {WIDTH} units learn scikit-learn's digits; beside each curve: unseen images read correctly"
    )
    if arguments.picture:
        undated = {"Date": None} if arguments.picture.endswith(".svg") else None  # the same run, the same bytes
        figure.savefig(arguments.picture, metadata=undated, dpi=150)


if __name__ == "__main__":
    main()
