"""docs/files.md: its commands run one after the other, with smaller tables, and print what the page shows."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from winit_fast.__main__ import main

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text(encoding="utf-8")
RECIPE, RULES = (
    re.search(rf"^```{kind}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)[1] for kind in ("toml", "json")
)
SMALLER = {"40000000x128": "400x128"}


def sessions():
    """The blocks with prompts: the commands of each, whose lines are joined."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL):
        joined = block.replace("\\\n> ", "")
        lines = re.findall(r"^\$ (.+)$", joined, flags=re.MULTILINE)
        if lines:
            found.append(lines)
    return found


@pytest.mark.parametrize("session", sessions(), ids=lambda session: session[0][:40])
def test_a_session_runs_as_it_stands(session, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if any("tables.toml" in line for line in session) and sys.version_info < (3, 11):
        pytest.importorskip("tomli")
    (tmp_path / "tables.toml").write_text(RECIPE.replace("000_000", "00"))
    (tmp_path / "rules.json").write_text(RULES)
    for line in session:
        words = [SMALLER.get(word, word) for word in shlex.split(line)]
        assert words[0] == "winit-fast"
        assert main(words[1:]) == 0, capsys.readouterr().err
