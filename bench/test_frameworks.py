"""TensorFlow, JAX and Keras on each of its backends: a new matrix by their own functions and by ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from frameworks import LIBRARIES, NAMES, Process


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
    benchmark.pedantic(process.make, (who, name, elements), setup=process.forget, rounds=rounds, warmup_rounds=2)
    method = "winit_fast" if who == "ours" else library
    benchmark.extra_info.update(method=method, threads=2, isa=None, elements=elements)
