"""README.md says what is true: its examples run, and its tables agree with the registry."""

import doctest
import re
from pathlib import Path

import pytest

import winit_fast

README = Path(__file__).parents[1] / "README.md"
BENCH_README = README.parent / "bench" / "README.md"


@pytest.fixture(scope="module")
def text():
    return README.read_text(encoding="utf-8")


def section(text, heading):
    """What stands between a heading and the next one of its level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(table):
    """Cells of the rows below the head of a Markdown table."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def scheme_table():
    """The table of schemes as the registry has it."""
    lines = ["| scheme | also called | draws |", "| --- | --- | --- |"]
    for entry in winit_fast.schemes():
        call = f"`{entry.name}({', '.join(map(str, entry.arguments))})`"
        aliases = ", ".join(f"`{alias}`" for alias in entry.aliases)
        lines.append(f"| {call} | {aliases} | {entry.formula} |".replace("|  |", "| |"))
    return "\n".join(lines)


def test_examples_run(text):
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert len(test.examples) > 20
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_table_of_schemes_is_the_registry(text):
    # Where this fails after a scheme was added: paste the new table.
    assert scheme_table() in section(text, "Schemes"), scheme_table()


def test_every_scheme_in_the_table_of_equivalents_reads_and_prints_as_itself(text):
    table = rows(section(text, "The same in torch, Keras and JAX"))
    assert len(table) > 15
    for ours, *theirs in table:
        scheme = winit_fast.scheme(ours.strip("`"))
        assert str(scheme) == str(winit_fast.scheme(str(scheme)))
        assert len(theirs) == 3, ours


@pytest.mark.parametrize("heading", ["Run it", "Test it"])
def test_each_command_is_one_line_in_one_block(text, heading):
    blocks = re.findall(r"^```sh\n(.*?)^```", section(text, heading), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1
    assert blocks[0].count("\n") == 1


@pytest.mark.parametrize("file", [README, BENCH_README], ids=["README", "bench/README"])
def test_no_number_is_left_to_be_measured(file):
    assert re.findall(r"@[A-Z0-9_]+@", file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", [README, BENCH_README], ids=["README", "bench/README"])
def test_every_picture_and_file_linked_to_is_in_the_repository(file):
    links = re.findall(r"\]\(([^)#:\s]+)\)|\bsrc=\"([^\":]+)\"", file.read_text(encoding="utf-8"))
    assert links
    assert [link for link in map("".join, links) if not (file.parent / link).is_file()] == []
