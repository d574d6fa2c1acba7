"""No text tells anybody to install winit_fast from a package index, where the name may be somebody else's."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("winit_fast", "adapters", "docs", "bench", "examples", "tools")
TEXTS = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.yml"), *ROOT.glob("*.cff"), *ROOT.glob("setup.py")]
TEXTS += [path for folder in FOLDERS for kind in ("py", "md", "pyx") for path in (ROOT / folder).rglob(f"*.{kind}")]

# With quotes, options and line breaks of a comment or docstring in between.
FROM_AN_INDEX = re.compile(r"""(?:pip3?|uv|pipx|conda)\s+(?:install|add)\b(?:[ \n#>"'`]|-[-\w]+)*winit[-_.]fast\b""")


def test_no_text_installs_winit_fast_from_an_index():
    assert len(TEXTS) > 100
    found = {str(path.relative_to(ROOT)) for path in TEXTS if FROM_AN_INDEX.search(path.read_text(encoding="utf-8"))}
    assert not found


@pytest.mark.parametrize(
    "text",
    ["pip install winit_fast", 'pip install "winit_fast[cli]"', "pip3 install -U winit-fast", "`uv add winit_fast`",
     "# python -m pip install --upgrade \\\n#   winit-fast".replace("\\", ""), "pip install -q 'winit_fast[torch]'"],
)  # fmt: skip
def test_such_a_text_would_be_found(text):
    assert FROM_AN_INDEX.search(text)


@pytest.mark.parametrize("text", ['pip install -e ".[cli]"', "pip install tqdm", 'pip install -e "./winit_fast[cli]"'])
def test_a_clone_and_other_packages_may_be_installed(text):
    assert not FROM_AN_INDEX.search(text)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_what_messages_say_to_install_is_what_extras_bring():
    """In the project's own messages; a framework's extra has the framework's name."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brought = {re.match(r"[\w-]+", need)[0].lower() for needs in extras.values() for need in needs}
    said = set()
    for folder in ("winit_fast", "adapters"):
        for path in (ROOT / folder).rglob("*.py"):
            said |= set(re.findall(r"pip install (\w[\w-]*)", path.read_text(encoding="utf-8")))
    assert said >= {"matplotlib", "tomli", "tqdm", "ml_dtypes"}
    assert said - {"fantasy"} <= brought  # which is in an example
    assert {"torch", "tensorflow", "keras", "jax", "cli", "tables", "report", "docs"} <= extras.keys()
