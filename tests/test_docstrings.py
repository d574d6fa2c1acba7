"""Examples in docstrings run as a reader copies them: what they use is imported in them.

Read from the sources, so that every adapter is covered without its framework; CI runs the examples themselves. An
example of something public imports that, too. One of an internal function may use what its own module defines.
"""

import ast
import builtins
import doctest
from pathlib import Path

import pytest

import winit_fast

ROOT = Path(winit_fast.__file__).parents[1]
INSTALLED = ROOT / "winit_fast" / "adapters"  # a clone has them at its top
PACKAGES = {
    "winit_fast": ROOT / "winit_fast",
    "winit_fast.adapters": INSTALLED if INSTALLED.is_dir() else ROOT / "adapters",
}


def modules():
    """The source of each module, by its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            words = path.relative_to(folder).with_suffix("").parts
            if not (package == "winit_fast" and words[0] == "adapters"):
                found[".".join([package, *words]).removesuffix(".__init__")] = path
    return dict(sorted(found.items()))


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def defined(module):
    found = set()
    for node in TREES[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {
                name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }
    return found


def is_public(module):
    """Whether readers import from there."""
    words = module.split(".")
    return (
        module in ("winit_fast", "winit_fast.initializer", "winit_fast.adapters.torch.recipes")
        or (len(words) == 2 and words[1] in ("files", "report", "check"))
        or (len(words) == 3 and words[1] == "adapters" and not words[2].startswith("_"))
    )


def exported(module):
    """The names in `__all__`, with those of other modules that are added to it."""
    names = []
    for node in TREES[module].body:
        if isinstance(node, ast.Assign | ast.AugAssign) and "__all__" in ast.unparse(node).split()[0]:
            names += [word.value for word in ast.walk(node.value) if isinstance(word, ast.Constant)]
            names += [
                name
                for other in ast.walk(node.value)
                if isinstance(other, ast.Attribute) and isinstance(other.value, ast.Name)
                for name in exported(f"{module}.{other.value.id}")
            ]
    return names


def origin(module, name):
    """The module that defines the name, and what it calls it."""
    for node in ast.walk(TREES[module]) if name not in defined(module) else ():
        if isinstance(node, ast.ImportFrom):
            is_package = MODULES[module].name == "__init__.py"
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names if source in TREES and source != module else ():
                if (alias.asname or alias.name) == name or (alias.name == "*" and name in exported(source)):
                    return origin(source, name if alias.name == "*" else alias.name)
    return module, name


PUBLIC = {}
for _module in filter(is_public, MODULES):
    for _name in exported(_module):
        PUBLIC.setdefault(origin(_module, _name), _module)


def documented(module):
    """Each docstring with examples: of what, at the top of the module, and the node that it belongs to."""

    def visit(node, top):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                yield from visit(child, top or child.name)
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ">>>" in (ast.get_docstring(node) or ""):
            yield top, node

    yield from visit(TREES[module], "")


def unbound(text):
    """The names that examples use and do not make."""
    source = "".join(example.source for example in doctest.DocTestParser().get_examples(text))
    used, made = set(), set(dir(builtins)) | {"__name__"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else made).add(node.id)
        elif isinstance(node, ast.alias):
            made.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            made.add(node.name)
    return used - made


CASES = [(module, top, node) for module in MODULES for top, node in documented(module)]


@pytest.mark.parametrize(("module", "top", "node"), CASES, ids=lambda value: getattr(value, "name", None))
def test_examples_import_what_they_use(module, top, node):
    missing = unbound(ast.get_docstring(node))
    if (module, top) not in PUBLIC:
        missing -= defined(module)
    assert not missing, f"the examples of {getattr(node, 'name', module)} in {MODULES[module]} use {sorted(missing)}"


def test_every_public_place_is_looked_at():
    """That the reading above finds what it is for."""
    assert PUBLIC["winit_fast.registry", "scheme"] == "winit_fast"
    assert PUBLIC["winit_fast.files.plans", "plan"] == "winit_fast.files"
    assert PUBLIC["winit_fast.adapters.torch.functions", "normal_"] == "winit_fast.adapters.torch"
    assert unbound(">>> import a.b, c as d\n>>> for e in [f for f in range(g)]:\n...     print(lambda h: h + i)") == {
        "g",
        "i",
    }
    assert len(CASES) > 150
