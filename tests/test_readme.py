"""README.md says what is true: its examples run, and its tables agree with the registry."""

import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from itertools import groupby
from pathlib import Path

import pytest

import winit_fast

README = Path(__file__).parents[1] / "README.md"
FRAMEWORKS = ["PyTorch", "TensorFlow", "Keras", "JAX", "One truth", "Which initialization works"]
BENCH_README = README.parent / "bench" / "README.md"


@pytest.fixture(scope="module")
def text():
    return README.read_text(encoding="utf-8")


def section(text, heading):
    """What stands between a heading and the next one of its level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def scheme_table():
    """The table of schemes as the registry has it."""
    lines = ["| scheme | also called | draws | source |", "| --- | --- | --- | --- |"]
    for entry in winit_fast.schemes():
        call = f"`{entry.name}({', '.join(map(str, entry.arguments))})`"
        aliases = ", ".join(f"`{alias}`" for alias in entry.aliases)
        lines.append(f"| {call} | {aliases} | {entry.formula} | {entry.source} |".replace("|  |", "| |"))
    return "\n".join(lines)


def equivalents_table():
    """The table of equivalents as the registry has it, and below it what differs: one bullet for a family."""
    lines = [
        "| winit_fast | torch.nn.init | keras.initializers | jax.nn.initializers |",
        "| --- | --- | --- | --- |",
    ]
    for equivalent in (one for entry in winit_fast.schemes() for one in entry.equivalents):
        cells = [f" `{call}` " if call else " " for call in equivalent]
        lines.append(f"|{'|'.join(cells)}|")
    lines.append("")
    for differs, entries in groupby(winit_fast.schemes(), lambda entry: entry.differs):
        names = [entry.name for entry in entries]
        name = names[0] if len(names) == 1 else f"{names[0].split('_')[0]}_*"
        if differs:
            lines += textwrap.wrap(f"* `{name}`: {differs}.", 120, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


def test_examples_run(text):
    for heading in FRAMEWORKS:
        text = text.replace(section(text, heading), "")
    run_examples(text, 20)


@pytest.mark.frameworks
@pytest.mark.parametrize("heading", FRAMEWORKS)
def test_examples_with_frameworks_run(text, heading):
    run_examples(section(text, heading), 5)


def run_examples(text, count):
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert len(test.examples) >= count
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_table_of_schemes_is_the_registry(text):
    # Where this fails after a scheme was added: paste the new table.
    assert scheme_table() in section(text, "Schemes"), scheme_table()


def test_the_table_of_equivalents_is_the_registry(text):
    # Where this fails after a scheme was added: paste the new table.
    assert equivalents_table() in section(text, "The same in torch, Keras and JAX"), equivalents_table()


def test_every_equivalent_is_of_the_scheme_that_has_it_and_names_another_library():
    for entry in winit_fast.schemes():
        for ours, *theirs in entry.equivalents:
            assert winit_fast.scheme(ours).name == entry.name
            assert any(theirs), ours


@pytest.mark.parametrize("heading", ["Run it", "Test it", "Test the adapters"])
def test_each_command_is_one_line_in_one_block(text, heading):
    blocks = re.findall(r"^```sh\n(.*?)^```", section(text, heading), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert blocks[0].count("\n") == 1


def commands():
    """What stands behind a ``$`` in a block of the pages, and each ``python -m`` or ``winit-fast`` in their text.

    Installations, tests and measurements are steps of CI.
    """
    pages = [README, *sorted((README.parent / "docs").rglob("*.md"))]
    whole = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(r"^\$ (.+)$", whole, flags=re.MULTILINE)
    found += re.findall(r"`((?:python -m winit_fast|winit-fast) [^`]+)`", whole)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_pages_runs_as_it_stands(command, tmp_path):
    if command.startswith("winit-fast"):
        command = command.replace("winit-fast", "python -m winit_fast", 1)  # the script may not be on the path
    program, *arguments = shlex.split(command)
    assert program == "python"
    path = os.pathsep.join([str(README.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", [README, BENCH_README], ids=["README", "bench/README"])
def test_no_number_is_left_to_be_measured(file):
    assert re.findall(r"@[A-Z0-9_]+@", file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", [README, BENCH_README], ids=["README", "bench/README"])
def test_every_picture_and_file_linked_to_is_in_the_repository(file):
    links = re.findall(r"\]\(([^)#:\s]+)\)|\bsrc=\"([^\":]+)\"", file.read_text(encoding="utf-8"))
    assert links
    assert [link for link in map("".join, links) if not (file.parent / link).is_file()] == []
