"""Modules of winit_fast and its adapters import each other in one direction, wherever an import is written."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"winit_fast": "winit_fast", "adapters": "winit_fast.adapters"}


def modules(root):
    """Each module's path by its name, as it is installed."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (root / folder).rglob("*.py"):
            inside = path.relative_to(root / folder).with_suffix("").parts
            if (folder, inside[0]) != ("winit_fast", "adapters"):  # a link
                found[".".join([package, *(part for part in inside if part != "__init__")])] = path
    return found


def imported(name, path, known):
    """The modules that one imports: at its top, in functions, and for annotations alone."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from known & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            named = [f"{source}.{alias.name}" for alias in node.names]
            yield from {module if module in known else source for module in named} & known - {name}


def graph(root):
    paths = modules(root)
    return {name: set(imported(name, path, paths.keys())) for name, path in paths.items()}


def test_no_modules_import_each_other_in_a_circle():
    imports = graph(ROOT)
    assert "winit_fast.fill" in imports["winit_fast"]
    assert "winit_fast.adapters.torch.plain" in imports["winit_fast.adapters.torch.tensors"]
    TopologicalSorter(imports).prepare()


@pytest.mark.parametrize(
    "back",
    ["from . import one", "import winit_fast.one", "def late():\n    from .one import x",
     "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from winit_fast.one import x"],
)  # fmt: skip
def test_a_circle_is_found_wherever_an_import_hides(tmp_path, back):
    (tmp_path / "winit_fast").mkdir()
    (tmp_path / "winit_fast" / "__init__.py").write_text("from winit_fast import two\n")
    (tmp_path / "winit_fast" / "one.py").write_text("from .two import y\n")
    (tmp_path / "winit_fast" / "two.py").write_text(back + "\n")
    with pytest.raises(CycleError):
        TopologicalSorter(graph(tmp_path)).prepare()


def test_arrows_point_one_way():
    """From commands and adapters down, from one adapter to no other, and from what judges models to what judges
    stacks."""
    for name, others in graph(ROOT).items():
        for other in others:
            if other.startswith("winit_fast.adapters."):
                adapter, reached = name.split(".")[2:3], other.split(".")[2:3]
                assert name.startswith(("winit_fast.adapters", "winit_fast.commands.")), (name, other)
                shared = (["_device"], ["_memory"], ["_seeds"])
                is_command = name.startswith("winit_fast.commands.")
                assert is_command or not adapter or reached in (adapter, *shared), (name, other)
            assert not (name.startswith("winit_fast.report") and other.startswith("winit_fast.check")), (name, other)
