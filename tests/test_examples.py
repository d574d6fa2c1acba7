"""examples/: each script runs and says what it found."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from processes import PATIENCE

FOLDER = Path(__file__).parents[1] / "examples"
# How many ranks run it (0: no torchrun), what it needs, and what must stand in what it prints.
EXAMPLES = {
    "torch_tensor": (0, "torch", ["std 0.0200; the shard has the table's bits: True"]),
    "torch_model": (0, "torch", ["he_normal(mode='fan_out')", "torch.Size([8, 10])"]),
    "torch_hugging_face": (0, "transformers", ["std 0.0200 without, 0.0200 with", "the same bits: True"]),
    "torch_fsdp2": (2, "torch", ["0.weight: rank 1 holds (2500, 256) of (5000, 256)", "the whole's bits: True"]),
    "torch_tables": (2, "torchrec", ["user_id: rank 1 holds 50000 x 64 of (100000, 64)", "the whole's bits: True"]),
    "training": (
        0,
        "sklearn",
        ["ReLU, learning rate 0.003: medians of 1 seeds", "not finite", "orthogonal(gain=1.414)"],
    ),
}
ARGUMENTS = {"training": ["--epochs", "1", "--seeds", "1"]}


def test_every_example_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(EXAMPLES)


@pytest.mark.frameworks
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name):
    ranks, needs, expected = EXAMPLES[name]
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks else []
    done = subprocess.run(
        [sys.executable, *runner, str(FOLDER / f"{name}.py"), *ARGUMENTS.get(name, [])],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in expected:
        assert words in done.stdout
    assert "bits: False" not in done.stdout
