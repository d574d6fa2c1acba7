"""TensorFlow, JAX and Keras on each of its backends: a new matrix by their own functions and by ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from frameworks import LIBRARIES, NAMES


class Process:
    """One framework in a process of its own, which makes a matrix when it is asked to."""

    def __init__(self, library: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name("frameworks.py")), library]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.greeting = self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def make(self, who: str, name: str, elements: int) -> None:
        assert self.process.stdin is not None
        print(who, name, elements, file=self.process.stdin, flush=True)
        if self.answer() != "done":
            raise RuntimeError(f"{who} {name} failed")

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, Process]]:
    """Each is started when it is first asked for, and the last one ends before: two would share the cores."""
    started: dict[str, Process] = {}
    yield started
    for process in started.values():
        process.end()


@pytest.mark.parametrize("who", ["ours", "theirs"])
@pytest.mark.parametrize(("library", "name"), [(library, name) for library in LIBRARIES for name in NAMES[library]])
def test_frameworks(
    benchmark: Any, processes: dict[str, Process], megabytes: int, pytestconfig: Any, library: str, name: str, who: str
) -> None:
    if library not in processes:
        for other in processes.values():
            other.end()
        processes.clear()
        processes[library] = Process(library)
    process = processes[library]
    if process.greeting != "ready":
        pytest.skip(process.greeting)
    benchmark.group = f"{library} {name}"
    elements = megabytes << 18
    rounds = 7 if pytestconfig.getoption("--seconds") > 0.1 else 2
    benchmark.pedantic(process.make, (who, name, elements), rounds=rounds, iterations=1, warmup_rounds=2)
    method = "winit_fast" if who == "ours" else library
    benchmark.extra_info.update(method=method, threads=2, isa=None, elements=elements)
