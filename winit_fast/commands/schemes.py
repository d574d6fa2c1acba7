"""List the schemes, with their arguments, formulas and other names."""

from __future__ import annotations

import argparse

from winit_fast.registry import read_scheme, schemes

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("scheme", nargs="?", metavar="NAME", help="only this one, with its source and equivalents")


def run(options: argparse.Namespace) -> int:
    """Print the list; return 0."""
    if options.scheme is None:
        for info in schemes():
            print(info, *(["; also", ", ".join(info.aliases)] if info.aliases else []))
        return 0
    word = options.scheme
    if not any(word in (info.name, *info.aliases) for info in schemes()):
        word = read_scheme(word).name  # a whole call; else it says which names there are
    info = next(info for info in schemes() if word in (info.name, *info.aliases))
    print(info)
    if info.aliases:
        print(f"also called {', '.join(info.aliases)}")
    if info.source:
        print(f"source: {info.source}")
    for ours, *theirs in info.equivalents:
        for library, call in zip(("torch.nn.init", "keras.initializers", "jax.nn.initializers"), theirs, strict=True):
            if call:
                print(f"{ours} is {call} of {library}")
    return 0
