"""All measurements, the table of targets and the picture: ``python bench/run.py``; see bench/README.md."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent


def main() -> int:
    """Run each step in a process of its own; the status is that of the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256, help="size of the buffers in MiB (default: 256)")
    parser.add_argument("--seconds", type=float, default=1.5, help="time for each measurement (default: 1.5)")
    parser.add_argument("--results", type=Path, default=BENCH.parent / ".benchmarks", help="folder for the JSON files")
    parser.add_argument("--picture", type=Path, help="default: bench/speed.svg, or in the results for other sizes")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md, docs/ and bench/README.md")
    parser.add_argument("-k", metavar="EXPRESSION", help="only these benchmarks, as pytest's -k; then no table")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    speed, memory, files = (options.results / name for name in ("speed.json", "memory.json", "files.json"))
    picture = options.picture or (BENCH if options.megabytes == 256 else options.results) / "speed.svg"
    path = os.pathsep.join([str(BENCH.parent), os.environ.get("PYTHONPATH", "")])

    def step(*arguments: object) -> int:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, check=False, cwd=BENCH.parent, env={**os.environ, "PYTHONPATH": path}).returncode

    failed = step(
        "-m", "pytest", BENCH, "-q", "-p", "no:cacheprovider", "--megabytes", options.megabytes,
        "--seconds", options.seconds, "--benchmark-json", speed, "--benchmark-sort", "min",
        "--benchmark-columns", "min,median,max,rounds", *(["-k", options.k] if options.k else []),
    )  # fmt: skip
    if failed or options.k:
        return failed
    step(BENCH / "memory.py", "--megabytes", 8 * options.megabytes, "--json", memory)
    step(BENCH / "files.py", "--megabytes", 8 * options.megabytes, "--folder", options.results, "--json", files)
    step(BENCH / "plot.py", speed, picture)
    if options.write:
        step(BENCH / "tables.py", speed, memory, files, "--write")
    return step(BENCH / "targets.py", speed, memory)


if __name__ == "__main__":
    sys.exit(main())
