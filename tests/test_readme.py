"""README.md and the pages of docs/ say what is true: examples run, tables are the registry, links lead somewhere."""

import doctest
import os
import re
import shlex
import subprocess
import sys
import textwrap
from importlib import import_module
from itertools import groupby
from pathlib import Path

import pytest
from processes import printed

import winit_fast
from winit_fast.distributions import Normal
from winit_fast.fans import Layout

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
MANUAL = [README, *sorted(DOCS.rglob("*.md"))]
PAGES = [*MANUAL, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md"]
FRAMEWORKS = re.compile(r"\b(torch|tensorflow|keras|jax|transformers)\b")
TABLES = re.compile(r"\b(dask|zarr)\b")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
LONGEST_LINE = 120


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def read(page):
    return page.read_text(encoding="utf-8")


def blocks(text, *languages):
    """The code of the fenced blocks in one of these languages."""
    return [code for language, code in FENCE.findall(text) if language in languages]


def section(text, heading):
    """What stands between a heading and the next one of its level."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def sections(page):
    return re.split(r"^(?=## )", read(page), flags=re.MULTILINE)


def examples(text):
    return "".join(blocks(text, "pycon"))


def needs_frameworks(text):
    return FRAMEWORKS.search(examples(text)) is not None


def with_examples(needs):
    """The pages with examples in a section that needs frameworks, or in one that needs none."""
    return [
        page
        for page in MANUAL
        if any(examples(one) and needs_frameworks(one) == needs for one in sections(page)) and not needs_tables(page)
    ]


def needs_tables(page):
    return TABLES.search(examples(read(page))) is not None


# Examples


@pytest.mark.parametrize("page", with_examples(False), ids=name_of)
def test_examples_run(page):
    run_examples(page, [one for one in sections(page) if not needs_frameworks(one)])


@pytest.mark.frameworks
@pytest.mark.parametrize("page", with_examples(True), ids=name_of)
def test_examples_with_frameworks_run(page):
    run_examples(page, sections(page))


@pytest.mark.parametrize("page", [page for page in MANUAL if needs_tables(page)], ids=name_of)
def test_examples_with_dask_and_zarr_run(page):
    pytest.importorskip("dask")
    pytest.importorskip("zarr", minversion="3.1")
    run_examples(page, sections(page))


def run_examples(page, texts):
    test = doctest.DocTestParser().get_doctest(examples("".join(texts)), {}, name_of(page), str(page), 0)
    assert test.examples
    report = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_quick_start_has_examples():
    quick_starts = set((DOCS / "quickstart").glob("*.md"))
    assert len(quick_starts) == 5
    assert quick_starts <= set(with_examples(True) + with_examples(False))


def test_every_example_is_in_a_block_that_is_run():
    for page in PAGES:
        text = FENCE.sub(lambda found: "" if found[1] == "pycon" else found[2], read(page))
        assert ">>>" not in text, name_of(page)


def test_every_other_block_of_python_is_run_by_one_of_the_tests_below():
    assert [name_of(page) for page in PAGES if blocks(read(page), "python", "py")] == [
        "docs/distributed.md",
        "docs/engines.md",  # by test_engines_programs.py
        "docs/extending.md",
    ]


# What the blocks of docs/distributed.md take as given, in a group of one process; and what each leaves.
DISTRIBUTED = """
import tempfile
from contextlib import contextmanager
from types import SimpleNamespace
import torch
from torch import nn
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from winit_fast import adapters

torch.distributed.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)

def expect(tensor, scheme, name):
    assert torch.equal(tensor, adapters.torch.init_(torch.empty(tensor.shape), scheme, seed=7, name=name))

def build_model():
    return nn.Sequential(nn.Linear(8, 4))
exec(BLOCKS[0])
assert type(model[0].weight.data).__name__ == "DTensor"
plain = build_model()
adapters.torch.init_module_(plain, "torch", seed=7)
assert torch.equal(model[0].weight.to_local(), plain[0].weight)

spec = ChunkShardingSpec(0, ["rank:0/cpu"])
tables = {name: sharded_tensor.full(spec, (8, 4), 9.0) for name in ("user_id", "item_id")}
model = SimpleNamespace(
    state_dict=lambda: {f"tables.embedding_bags.{name}.weight": table for name, table in tables.items()})
exec(BLOCKS[1])
for name, table in tables.items():
    expect(table.local_shards()[0].tensor, "normal(std=0.01)", name)

gathered = []
@contextmanager
def gather(parameters, modifier_rank):
    gathered.append(parameters)
    yield
deepspeed = SimpleNamespace(zero=SimpleNamespace(GatheredParameters=gather))
model = build_model()
exec(BLOCKS[2])
assert len(gathered[0]) == 2 and torch.equal(model[0].weight, plain[0].weight)
torch.distributed.destroy_process_group()
"""


@pytest.mark.frameworks
def test_the_blocks_on_distributed_models_do_what_they_say():
    found = blocks(read(DOCS / "distributed.md"), "python")
    assert len(found) == 3
    assert printed(f"BLOCKS = {found!r}\n{DISTRIBUTED}") == ""


def test_the_scheme_that_extending_adds_is_made_of_what_there_is():
    names = {
        **vars(import_module("winit_fast.schemes")),
        "register": lambda *of_it, **others: lambda function: function,
    }
    exec(blocks(read(DOCS / "extending.md"), "python")[0], names)
    assert names["half_lecun"]().distribution(Layout((16, 4))) == Normal(0.0, 0.5 / 4)


# Tables


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


def test_the_table_of_schemes_is_the_registry():
    # Where this fails after a scheme was added: paste the new table.
    assert f"\n{scheme_table()}\n" in read(DOCS / "schemes.md"), scheme_table()


def test_the_table_of_equivalents_is_the_registry():
    # Where this fails after a scheme was added: paste the new table.
    assert f"\n{equivalents_table()}\n" in read(DOCS / "equivalents.md"), equivalents_table()


def test_every_equivalent_is_of_the_scheme_that_has_it_and_names_another_library():
    for entry in winit_fast.schemes():
        for ours, *theirs in entry.equivalents:
            assert winit_fast.scheme(ours).name == entry.name
            assert any(theirs), ours


def test_measured_tables_have_their_places(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    import tables

    for page, names in tables.FILES.items():
        found = re.findall(r"<!-- (?!end )(.*?) -->(?:.*?)<!-- end -->", read(page), flags=re.DOTALL)
        assert sorted(found) == sorted(names), name_of(page)
    marked = [page for page in PAGES if "<!-- end -->" in re.sub(r"`[^`\n]*`", "", read(page))]
    assert set(marked) == set(tables.FILES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_number_is_left_to_be_measured(page):
    assert re.findall(r"@[A-Z0-9_]+@", read(page)) == []


# Commands


@pytest.mark.parametrize("heading", ["Run it", "Test it", "Test the adapters"])
def test_each_command_is_one_line_in_one_block(heading):
    found = blocks(section(read(README), heading), "sh")
    assert len(found) == 1
    assert found[0].count("\n") == 1


def commands():
    """What stands behind a ``$`` in a block of the pages, and each ``python -m`` or ``winit-fast`` in their text.

    Installations, tests and measurements are steps of CI. tests/test_files_page.py runs those of docs/files.md, one
    after the other, with smaller tables.
    """
    whole = "\n".join(read(page) for page in MANUAL if page != DOCS / "files.md")
    found = re.findall(r"^\$ (.+)$", whole, flags=re.MULTILINE)
    found += re.findall(r"`((?:python -m winit_fast|winit-fast) [^`]+)`", whole)
    found = set(found)
    # It draws what docs/which-initialization.md shows; tests/test_report.py has a smaller one.
    found.remove(long := "winit-fast report --activation relu --depth 50 --width 512")
    return [*sorted(found), pytest.param(long, marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_pages_runs_as_it_stands(command, tmp_path):
    if command.startswith("winit-fast"):
        command = command.replace("winit-fast", "python -m winit_fast", 1)  # the script may not be on the path
    program, *arguments = shlex.split(command)
    assert program == "python"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# Form


def test_the_front_page_is_a_front_page():
    assert read(README).count("\n") <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_are_short(page):
    links = re.compile(r"\[[^\]]*\]\([^)]*\)|!\[|https?://")
    long = [line for line in read(page).splitlines() if len(line) > LONGEST_LINE]
    assert [line for line in long if not line.startswith("|") and not links.search(line)] == []


def anchors(page):
    """The names that links to the headings of a page end with."""
    text = FENCE.sub("", read(page))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_picture_and_file_linked_to_is_in_the_repository(page):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", read(page)))
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", text):
        file = (page.parent / link).resolve() if link else page
        assert file.is_file(), link
        assert not anchor or anchor in anchors(file), f"{link}#{anchor}"


def test_every_page_is_in_the_manuals_navigation():
    navigation = read(ROOT / "mkdocs.yml")
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS).as_posix()}\n" in navigation, name_of(page)


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=name_of)
def test_every_api_page_says_at_the_top_how_to_read_it_without_building(page):
    top = read(page).split("\n\n")[1]
    command, name = re.search(r"`(import [\w.]+)`, then `help\(([\w.]+)\)`", top).groups()
    file = name.replace(".", "/")
    is_module = (ROOT / f"{file}.py").is_file() or (ROOT / file).is_dir()
    adapter = ROOT / file.removeprefix("winit_fast/")
    is_adapter = adapter.is_dir() or adapter.with_suffix(".py").is_file()
    assert command == ("import winit_fast.report" if name == "winit_fast.report" else "import winit_fast")
    assert is_module or is_adapter or callable(getattr(winit_fast, name.partition(".")[2]))


def test_the_citation_has_the_packages_version():
    assert f"\nversion: {winit_fast.__version__}\n" in read(ROOT / "CITATION.cff")
    assert f"\n## {winit_fast.__version__}" in read(ROOT / "CHANGELOG.md")
