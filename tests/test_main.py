"""``python -m winit_fast``: what it prints, what it writes, and that it fails when something is wrong."""

import sys

import numpy as np
import pytest
from arrays import DTYPES, python

import winit_fast
from winit_fast import embeddings
from winit_fast.__main__ import main
from winit_fast.distributions import Normal, TruncatedNormal
from winit_fast.embeddings import fingerprint, moments, promised
from winit_fast.exact import FLOAT32

TINY = ["--rows", "301", "--dim", "7"]


def fingerprints(text):
    """The first words of the lines that report a fill."""
    return [line.split()[0] for line in text.splitlines() if "GB/s" in line]


def test_the_module_runs_as_a_command():
    done = python("-m", "winit_fast", *TINY)
    assert done.returncode == 0, done.stderr
    assert "Llama 3" in done.stdout
    assert "DLRM" in done.stdout
    assert len(fingerprints(done.stdout)) == 6
    assert done.stdout.endswith("all checks hold\n")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "scheme",
    [
        "zeros",
        "constant(0.3)",
        "uniform(low=1, high=3)",
        "normal(mean=-1, std=0.5)",
        "he_uniform",
        "lecun_truncated_normal",
        "truncated_normal(low=3, high=inf)",
        "truncated_normal(low=-8, high=-6)",
    ],
)
def test_every_dtype_and_scheme_keeps_what_it_promises(dtype, scheme, capsys):
    status = main([*TINY, "--table", "dlrm", "--dtype", dtype, "--scheme", scheme, "--threads", "3"])
    assert status == 0, capsys.readouterr().out


def test_the_fingerprint_is_that_of_fill(capsys):
    own = ["--dtype", "float32", "--scheme", "normal", "--seed", "5", "--name", "a"]
    assert main([*TINY, "--table", "dlrm", *own]) == 0
    table = winit_fast.fill(np.empty((301, 7), "float32"), "normal", seed=5, name="a")
    assert set(fingerprints(capsys.readouterr().out)) == {fingerprint(table)}


def test_seed_and_name_change_the_fingerprint(capsys):
    seen = set()
    for options in ([], ["--seed", "8"], ["--name", "another"]):
        assert main([*TINY, "--table", "dlrm", *options]) == 0
        seen.update(fingerprints(capsys.readouterr().out))
    assert len(seen) == 3


def test_out_writes_a_file_that_numpy_loads(tmp_path, capsys):
    assert main([*TINY, "--table", "dlrm", "--out", str(tmp_path / "new")]) == 0
    table = np.load(tmp_path / "new" / "dlrm.npy")
    assert table.shape == (301, 7)
    assert table.dtype == np.float16
    assert set(fingerprints(capsys.readouterr().out)) == {fingerprint(table)}


def test_full_asks_for_every_row(monkeypatch, capsys):
    monkeypatch.setattr(embeddings, "_available_memory", lambda: 1e9)
    assert main(["--table", "dlrm", "--full"]) == 2
    assert "10,240,000,000 bytes are needed" in capsys.readouterr().err


def test_a_file_larger_than_the_disk_is_refused_before_it_is_made(tmp_path, capsys):
    assert main(["--table", "dlrm", "--rows", str(1 << 40), "--out", str(tmp_path)]) == 2
    assert "free in" in capsys.readouterr().err
    assert not (tmp_path / "dlrm.npy").exists()


def test_differing_values_fail(monkeypatch, capsys):
    def fill(out, scheme, *, threads, **arguments):
        return winit_fast.fill(out, scheme, **{**arguments, "seed": threads})

    monkeypatch.setattr(embeddings, "fill", fill)
    assert main([*TINY, "--table", "dlrm"]) == 1
    assert "FAILED: the fingerprints differ" in capsys.readouterr().out


def test_wrong_moments_fail(monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        winit_fast.fill(out, scheme, **arguments)
        out *= np.float16(1.2)
        return out

    monkeypatch.setattr(embeddings, "fill", fill)
    assert main([*TINY, "--table", "dlrm"]) == 1
    out = capsys.readouterr().out
    assert "fingerprints differ" not in out
    assert "FAILED" in out


def test_a_value_that_is_never_written_fails(monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        winit_fast.fill(out[1:], scheme, **{**arguments, "offset": (arguments["offset"][0] + 1, 0)})
        return out

    monkeypatch.setattr(embeddings, "fill", fill)
    assert main([*TINY, "--table", "dlrm"]) == 1
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheme", "he_norml"], "did you mean 'he_normal'?"),
        (["--rows", "0"], "must be an int >= 1, got 0"),
        (["--rows", "5", "--full"], "not allowed with"),
        (["--seed", str(1 << 64)], "seed must be"),
        (["--dtype", "int8"], "invalid choice"),
        (["--scheme", "normal(std=1e9)", "--dtype", "float16"], "float16"),
        (["unheard_of"], "invalid choice"),
    ],
)
def test_what_cannot_be_used_is_named(options, message, capsys):
    size = [] if "--rows" in options or options == ["unheard_of"] else TINY
    assert main([*options, *size]) == 2
    assert message in capsys.readouterr().err


def test_without_ml_dtypes_float16_takes_the_place_of_bfloat16(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main([*TINY, "--table", "llama3"]) == 0
    out = capsys.readouterr().out
    assert "ml_dtypes is not installed" in out
    assert "301 x 7 float16" in out
    assert main([*TINY, "--table", "llama3", "--dtype", "bfloat16"]) == 2
    assert "needs the package ml_dtypes" in capsys.readouterr().err


def test_moments_are_the_same_however_the_table_is_cut(monkeypatch):
    values = np.random.default_rng(1).normal(1e3, 1.0, (100, 30))
    whole = moments(values)
    monkeypatch.setattr(embeddings, "_CHUNK", 7)
    np.testing.assert_allclose(moments(values), whole, rtol=1e-13)
    np.testing.assert_allclose(whole[:2], (values.mean(), values.std()), rtol=1e-13)


@pytest.mark.parametrize(
    "bounds", [(-2, 2), (-1, 3), (0.5, 4), (-np.inf, 1), (3, np.inf), (5, 6), (30, 31), (-31, -30)]
)
def test_promised_moments_of_the_truncated_normal_are_those_of_scipy(bounds):
    stats = pytest.importorskip("scipy.stats")
    found = promised(TruncatedNormal(0.25, 2.0, *map(float, bounds)), FLOAT32, 6.5557)
    truncated = stats.truncnorm(*bounds, loc=0.25, scale=2.0)
    close = 1e-6 if (bounds[0] > -30 and bounds[1] < 31) or np.inf in np.abs(bounds) else 1e-3  # scipy's loses digits
    np.testing.assert_allclose(found[:2], (truncated.mean(), truncated.std()), rtol=close)


def test_promised_bounds_of_the_normal_are_those_of_the_kernel():
    found = promised(Normal(1.0, 0.5), FLOAT32, 6.5557)
    assert found.mean == 1.0
    assert found.std == 0.5
    assert found.max == pytest.approx(1.0 + 0.5 * 6.5557, rel=1e-5)
