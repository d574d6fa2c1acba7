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


# Of describe_missing(user, package, extra), and of needs(package) or needs(package, extra).
MISSING = re.compile(r"""missing\(.+, ['"]([\w-]+)['"], ['"](\w+)['"]\)|\bneeds\("'?([\w-]+)[^",]*"(?:, "(\w+)")?\)""")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_what_messages_say_to_install_is_in_the_extra_that_they_name():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brings = {extra: {re.match(r"[\w-]+", need)[0] for need in needs} for extra, needs in extras.items()}
    said = set()
    for folder in ("winit_fast", "adapters"):
        for path in (ROOT / folder).rglob("*.py"):
            for match in MISSING.finditer(path.read_text(encoding="utf-8")):
                package = match[1] or match[3]
                said.add((package, match[2] or match[4] or package))
    said.remove(("fancy", "fancy"))  # which is in an example
    assert {extra for _, extra in said} == {
        "bfloat16",
        "cli",
        "jax",
        "keras",
        "report",
        "tables",
        "tensorflow",
        "torch",
    }
    for package, extra in said:
        assert package in brings[extra]
