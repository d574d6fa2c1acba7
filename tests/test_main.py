"""``python -m winit_fast``: what it prints, what it writes, and that it fails when something is wrong."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from arrays import DTYPES
from processes import COMMAND, PATIENCE, python

import winit_fast
from winit_fast import demo, publish
from winit_fast.__main__ import COMMANDS, main
from winit_fast.demo import measure_moments, predict_moments
from winit_fast.distributions import Normal, TruncatedNormal
from winit_fast.fingerprints import fingerprint
from winit_fast.lowering import ELEMENT_TYPES

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


def test_tails_heavier_than_a_normals_are_no_failure(capsys):
    """Of a far cut, whose kurtosis is 9."""
    scheme = "truncated_normal(low=8, high=inf)"
    given = ["--table", "dlrm", "--rows", "1000", "--dim", "7", "--dtype", "float32", "--seed", "9", "--name", "a"]
    assert main([*given, "--scheme", scheme]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("way", ["fails", "raises"])
def test_new_folders_are_removed_where_nothing_is_written(way, tmp_path, monkeypatch, capsys):
    def fill_and_check(*_):
        if way == "raises":
            raise KeyboardInterrupt
        return 1

    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(demo, "_fill_and_check", fill_and_check)
    assert main([*TINY, "--table", "dlrm", "--out", str(tmp_path / "mine" / "a" / "b")]) == (
        1 if way == "fails" else 130
    )
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


# What cannot be left out, and values of every kind.
ARGUMENTS = {
    "constant": "(0.3)", "sparse": "(0.5)", "array": "([1, 2, 3, 4, -5, 6, 7.1, 8])", "residual_normal": "(12)",
    "fixup": "(9)", "t_fixup": "(9)", "deepnet": "(6)", "mup": "(64)",
}  # fmt: skip
EVERY_SCHEME = [entry.name + ARGUMENTS.get(entry.name, "") for entry in winit_fast.schemes()]
MORE_SCHEMES = [
    "sparse(1)", "sparse(0.3, per='out')", "sparse(0.5, std=0)", "identity(-3)", "orthogonal(2)", "orthogonal(0)",
    "uniform(0, 1, rounding='below_high')", "uniform(-3, -1, rounding='below_high')", "uniform(1, 1.0000001)",
    "uniform(1e307, 1.2e308)", "uniform(-1e308, 1e308)", "uniform(0, 1e39)", "normal(mean=1)", "normal(std=1e-200)",
    "normal(std=1e200)", "normal(std=1e-320)", "truncated_normal(mean=1e308, std=1e306, low=-inf, high=1)",
    "constant(1e-200)", "constant(-0.0)", "array(3.3)", "array([1e-310])", "array([1e308, -1e308, 1, 2, 3, 4, 5, 6])",
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ELEMENT_TYPES)
@pytest.mark.parametrize("shape", [(60, 8), (1, 8)])
def test_every_scheme_is_checked_or_refused_in_one_line(shape, dtype, capsys):
    size = ["--rows", str(shape[0]), "--dim", str(shape[1])]
    for scheme in EVERY_SCHEME + MORE_SCHEMES:
        try:
            winit_fast.fill(winit_fast.empty(shape, dtype), scheme, seed=7, name="a")
        except (TypeError, ValueError):
            expected = 2
        else:
            expected = 0
        assert main([*size, "--table", "dlrm", "--dtype", dtype, "--scheme", scheme]) == expected, scheme
        out, err = capsys.readouterr()
        assert (out.count("\n"), err.count("\n")) == ((11, 0) if expected == 0 else (0, 1)), scheme


@pytest.mark.parametrize(
    ("dtype", "scheme"),
    [
        ("float32", "sparse(0.5)"),
        ("float16", "orthogonal"),
        ("float64", "identity"),
        ("float32", "array([1, 2, 3, 4, -5, 6, 7, 8])"),
        ("float32", "lstm_bias"),
        ("complex64", "he_normal"),
        ("complex64", "he_uniform"),
        ("complex128", "he_truncated_normal"),
        ("complex128", "constant(2)"),
    ],
)
def test_wrong_values_of_every_kind_of_scheme_fail(dtype, scheme, monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        winit_fast.fill(out, scheme, **arguments)
        out *= out.dtype.type(1.1)
        return out

    arguments = ["--rows", "600", "--dim", "8", "--table", "dlrm", "--dtype", dtype, "--scheme", scheme]
    assert main(arguments) == 0, capsys.readouterr().out
    monkeypatch.setattr(demo, "fill", fill)
    assert main(arguments) == 1


def test_a_value_that_is_high_fails_where_values_are_promised_below_it(monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        return winit_fast.fill(out, "uniform(0, 1)", **arguments)

    monkeypatch.setattr(demo, "fill", fill)
    arguments = [*TINY, "--table", "dlrm", "--dtype", "bfloat16", "--scheme"]
    assert main([*arguments, "uniform(0, 1)"]) == 0
    assert main([*arguments, "uniform(0, 1, rounding='below_high')"]) == 1
    assert "expected +9.960938e-01 or less  FAILED" in capsys.readouterr().out


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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_a_file_is_the_one_that_numpy_writes(dtype, tmp_path):
    arguments = ["--table", "dlrm", "--dtype", dtype, "--scheme", "he_normal", "--name", "a", "--out", str(tmp_path)]
    assert main([*TINY, *arguments]) == 0
    np.save(tmp_path / "saved.npy", winit_fast.fill(winit_fast.empty((301, 7), dtype), "he_normal", seed=7, name="a"))
    assert (tmp_path / "dlrm.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


# What is there stays


OLD = b"somebody's work"


@pytest.fixture
def precious(tmp_path):
    """A folder with somebody's dlrm.npy."""
    (tmp_path / "dlrm.npy").write_bytes(OLD)
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_is_there_is_refused_by_name_before_any_table_is_written(precious, capsys):
    assert main([*TINY, "--out", str(precious)]) == 2  # llama3 comes first
    assert f"{precious / 'dlrm.npy'} exists already; --force replaces it" in capsys.readouterr().err
    assert contents(precious) == {"dlrm.npy": OLD}


def test_force_replaces_a_file_when_the_new_one_is_whole(precious, monkeypatch):
    def fill(out, scheme, **arguments):
        assert (precious / "dlrm.npy").read_bytes() == OLD
        return winit_fast.fill(out, scheme, **arguments)

    monkeypatch.setattr(demo, "fill", fill)
    assert main([*TINY, "--table", "dlrm", "--table", "dlrm", "--out", str(precious), "--force"]) == 0
    assert [path.name for path in precious.iterdir()] == ["dlrm.npy"]
    assert np.load(precious / "dlrm.npy").shape == (301, 7)


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "99999999999999999999"], "seed must be"),
        (["--scheme", "uniform(0,1e39)"], "reaches 1e+39"),
        (["--scheme", ""], "scheme ''"),
        (["--scheme", "he_norml"], "did you mean 'he_normal'?"),
        (["--scheme", "dirac"], "kernel axes"),
        (["--scheme", "array([1, 2])"], "must broadcast"),
        (["--scheme", "normal(std=1e5)"], "float16"),  # which llama3's bfloat16 holds
        (["--scheme", "orthogonal", "--dtype", "complex64"], "complex"),
        (["--dtype", "int8"], "invalid choice"),
        (["--dtype", "float8_e5m2"], "float8_e5m2 cannot be in a .npy file, which np.load could not open"),
        (["--name", "\udcff"], "name must be text that UTF-8 can encode"),
        (["--rows", str(1 << 62)], "fewer than 2^63 bytes"),
        (["--dim", "9" * 30], "fewer than 2^63 bytes"),
        (["--threads", "0"], "must be an int >= 1"),
    ],
)
def test_every_argument_is_checked_before_a_file_is_touched(options, message, force, precious, capsys):
    assert main([*TINY, *options, "--out", str(precious), *force]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert contents(precious) == {"dlrm.npy": OLD}


def test_a_table_larger_than_the_disk_is_refused_before_a_file_is_touched(precious, capsys):
    assert (
        main(["--table", "llama3", "--table", "dlrm", "--rows", str(1 << 42), "--out", str(precious), "--force"]) == 2
    )
    assert "free in" in capsys.readouterr().err
    assert contents(precious) == {"dlrm.npy": OLD}


def test_a_missing_package_is_told_before_a_file_is_touched(precious, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main([*TINY, "--dtype", "bfloat16", "--out", str(precious), "--force"]) == 2
    assert "needs ml_dtypes, of the extra [bfloat16]" in capsys.readouterr().err
    assert contents(precious) == {"dlrm.npy": OLD}


def test_a_table_that_fails_its_checks_is_not_written(precious, monkeypatch, capsys):
    def fill(out, scheme, *, threads, **arguments):
        return winit_fast.fill(out, scheme, **{**arguments, "seed": threads})

    monkeypatch.setattr(demo, "fill", fill)
    assert main([*TINY, "--table", "dlrm", "--out", str(precious), "--force"]) == 1
    assert "not written" in capsys.readouterr().out
    assert contents(precious) == {"dlrm.npy": OLD}


def test_out_must_be_a_folder_that_can_be_written_in(precious, monkeypatch, capsys):
    for folder in (precious / "dlrm.npy", precious / "dlrm.npy" / "new"):
        assert main([*TINY, "--out", str(folder), "--force"]) == 2
        assert "must be in a folder, but" in capsys.readouterr().err
    (precious / "llama3.npy").mkdir()
    assert main([*TINY, "--out", str(precious), "--force"]) == 2
    assert "llama3.npy must be a file, but it is a folder" in capsys.readouterr().err
    (precious / "llama3.npy").rmdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert main([*TINY, "--out", str(precious), "--force"]) == 2
    assert "must be in a writable folder" in capsys.readouterr().err
    assert contents(precious) == {"dlrm.npy": OLD}


def test_a_disk_that_is_full_after_all_is_one_line_and_no_file(precious, capsys, monkeypatch):
    def allocate(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    assert main([*TINY, "--table", "dlrm", "--out", str(precious), "--force"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert contents(precious) == {"dlrm.npy": OLD}


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_limit_of_the_size_of_files_is_one_line_and_no_file(precious):
    code = f"""
import resource, sys
from winit_fast.__main__ import COMMANDS, main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(["--table", "dlrm", "--rows", "1000", "--dim", "64", "--out", {str(precious)!r}, "--force"]))
"""
    done = python("-c", code)
    assert done.returncode == 2
    assert "no room for 128,128 bytes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert contents(precious) == {"dlrm.npy": OLD}


@pytest.mark.parametrize("step", [pytest.param(7, id="every 7th"), pytest.param(1, marks=pytest.mark.exhaustive)])
def test_an_interrupt_at_any_bytecode_leaves_the_old_table_or_the_new_one(precious, step):
    functions = ("_create_table", "_map_file", "_fill_and_check")

    def run(place):
        """Interrupt at that place; in which function it is, None beyond the last."""
        met, where = -1, None

        def trace(frame, event, _):
            nonlocal met, where
            is_ours = frame.f_code.co_filename == demo.__file__ and frame.f_code.co_name in functions
            if not is_ours and frame.f_code.co_filename != publish.__file__:
                return None
            if frame.f_code.co_name == "<genexpr>" and sys.version_info[:2] == (3, 12):
                return None  # whose end that Python runs where it can only ignore exceptions
            frame.f_trace_opcodes = True
            if event == "opcode":
                met += 1
                if met == place:
                    where = frame.f_code.co_name
                    raise KeyboardInterrupt
            return trace

        (precious / "dlrm.npy").write_bytes(OLD)
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
        sys.settrace(trace)
        try:
            status = main(["--table", "dlrm", "--rows", "4", "--dim", "2", "--out", str(precious), "--force"])
        finally:
            sys.settrace(before)
        assert status == (0 if where is None else 130)
        return where

    run(-1)
    whole = contents(precious)
    place = 0
    while (where := run(place)) is not None:
        if where in ("__exit__", "_remove"):  # interrupted there, the end of the process does the rest
            publish._remove_unfinished()
        assert contents(precious) in ({"dlrm.npy": OLD}, whole), (place, where)
        place += step
    assert place > 500


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "delay"),
    [
        ("SIGINT", 0.0),
        pytest.param("SIGINT", 0.03, marks=pytest.mark.exhaustive),
        ("SIGINT", 0.2),
        ("SIGTERM", 0.1),
        ("SIGHUP", 0.1),
        ("SIGKILL", 0.1),
    ],
)
def test_a_real_signal_leaves_no_table_and_no_partial_file(name, delay, tmp_path):
    number = getattr(signal, name)
    arguments = ["--table", "dlrm", "--rows", "300000", "--threads", "1", "--out", str(tmp_path)]
    command = [*COMMAND, *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not any(tmp_path.iterdir()) and child.poll() is None:
        time.sleep(0.001)
    time.sleep(delay)
    child.send_signal(number)
    _, err = child.communicate(timeout=PATIENCE)
    found = [path.name for path in tmp_path.iterdir()]
    if "dlrm.npy" in found:  # the signal came when that was published, at the end or after it
        assert np.load(tmp_path / "dlrm.npy", mmap_mode="r").shape[0] == 300000
        assert found == ["dlrm.npy"] or name == "SIGKILL"
    elif name == "SIGKILL":
        assert child.returncode == -number
    else:
        assert child.returncode == 128 + number
        assert found == []
        assert err == ("python -m winit_fast embeddings: interrupted\n" if name == "SIGINT" else "")


def test_full_asks_for_every_row(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_measure_available_memory", lambda: 1e9)
    assert main(["--table", "dlrm", "--full"]) == 2
    assert "10,240,000,000 bytes are needed" in capsys.readouterr().err


def test_a_file_larger_than_the_disk_is_refused_before_it_is_made(tmp_path, capsys):
    assert main(["--table", "dlrm", "--rows", str(1 << 40), "--out", str(tmp_path)]) == 2
    assert "free in" in capsys.readouterr().err
    assert not (tmp_path / "dlrm.npy").exists()


def test_differing_values_fail(monkeypatch, capsys):
    def fill(out, scheme, *, threads, **arguments):
        return winit_fast.fill(out, scheme, **{**arguments, "seed": threads})

    monkeypatch.setattr(demo, "fill", fill)
    assert main([*TINY, "--table", "dlrm"]) == 1
    assert "FAILED: the fingerprints differ" in capsys.readouterr().out


def test_wrong_moments_fail(monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        winit_fast.fill(out, scheme, **arguments)
        out *= np.float16(1.2)
        return out

    monkeypatch.setattr(demo, "fill", fill)
    assert main([*TINY, "--table", "dlrm"]) == 1
    out = capsys.readouterr().out
    assert "fingerprints differ" not in out
    assert "FAILED" in out


def test_a_value_that_is_never_written_fails(monkeypatch, capsys):
    def fill(out, scheme, **arguments):
        winit_fast.fill(out[1:], scheme, **{**arguments, "offset": (arguments["offset"][0] + 1, 0)})
        return out

    monkeypatch.setattr(demo, "fill", fill)
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fill", "a.raw", "--threads", "0"], "{} fill: argument --threads: must be an int >= 1, got 0"),
        (["fill"], "{} fill: the following arguments are required: FILE"),
        (["fill", "a.raw", "b.raw"], "{0} fill: unrecognized arguments: b.raw; {0} fill --help lists what there is"),
        (["verify", "a.raw", "--sample", "x"], "{} verify: argument --sample: invalid integer value: 'x'"),
        (["--rows"], "{} embeddings: argument --rows: expected one argument"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_begins_with_the_command(words, message, capsys):
    """And not all that could be given, which argparse prints in front of it."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err == message.format("python -m winit_fast") + "\n"
    assert out == ""


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_options_have_no_short_forms(command, capsys):
    """`--res` may mean `--resume` today, and something else with the next option."""
    words = [command, *[__file__] * (command in ("fill", "verify", "clean"))] if command else []
    option = {"fill": "--res", "bench": "--sec=1", "verify": "--samp=1"}.get(command, "--hel")
    assert main([*words, option]) == 2
    out, err = capsys.readouterr()
    assert f"unrecognized arguments: {option}; python -m winit_fast" in err
    assert out == ""


def test_an_error_of_the_system_begins_with_its_reason(tmp_path, capsys):
    """And not with a number, as Python has it: for each command that opens files."""
    missing = str(tmp_path / "missing")
    for words in (
        ["verify", f"{missing}.raw"],
        ["fill", "a.raw", "--recipe", missing],
        ["fill", "a.raw", "--like", missing],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(
            f"python -m winit_fast {words[0]}: No such file or directory: {missing[:-1]!r}"[:-1]
        )


def test_an_interrupt_while_a_command_is_imported_is_one_line(monkeypatch, tmp_path, capsys):
    (tmp_path / "slow_command.py").write_text("raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "clean", ("slow_command", ""))
    assert main(["clean", "a"]) == 130
    assert capsys.readouterr().err == "python -m winit_fast clean: interrupted\n"


def test_without_ml_dtypes_float16_takes_the_place_of_bfloat16(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main([*TINY, "--table", "llama3"]) == 0
    out = capsys.readouterr().out
    assert (
        "dtype bfloat16 needs ml_dtypes, of the extra [bfloat16]: pip install ml_dtypes; float16 is used instead" in out
    )
    assert "301 x 7 float16" in out
    assert main([*TINY, "--table", "llama3", "--dtype", "bfloat16"]) == 2
    assert "needs ml_dtypes, of the extra [bfloat16]" in capsys.readouterr().err


PRINTING = {
    "embeddings": [*TINY, "--table", "dlrm"],
    "fill": ["--shape", "300x7", "--scheme", "normal", "--seed", "7", "--name", "a"],
    "verify": [],
    "clean": [],
    "schemes": [],
    "bench": ["--seconds", "0.01", "--megabytes", "1"],
    "report": ["--no-picture", "--depth", "3", "--width", "16", "--batch", "16"],
}


@pytest.mark.skipif(os.name == "nt", reason="a closed pipe is another error there")
@pytest.mark.parametrize("closed", ["output", "output and errors"])
@pytest.mark.parametrize("command", [*COMMANDS, "--help", "--version", "fill --help"])
def test_a_closed_pipe_ends_every_command_quietly(command, closed, tmp_path):
    """As `winit-fast schemes | head` closes it."""
    table = tmp_path / "a.safetensors"
    if command == "verify":
        assert main(["fill", str(table), *PRINTING["fill"]]) == 0
    words = [*command.split(), *PRINTING.get(command, ()), *[str(table)] * (command in ("fill", "verify", "clean"))]
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [*COMMAND, *words], stdout=write_end, stderr=subprocess.PIPE if closed == "output" else write_end,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    finally:
        os.close(write_end)
    of_help = (0, 141) if "--help" in command else (141,)  # argparse says nothing of what it cannot write at once
    assert done.returncode in of_help
    assert not done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [table.name] * (command in ("fill", "verify"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no disk that is always full")
def test_output_that_cannot_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "schemes"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_moments_are_the_same_however_the_table_is_cut(monkeypatch):
    values = np.random.default_rng(1).normal(1e3, 1.0, (100, 30))
    whole = measure_moments(values)
    monkeypatch.setattr(demo, "_CHUNK", 7)
    np.testing.assert_allclose(measure_moments(values), whole, rtol=1e-13)
    np.testing.assert_allclose(whole[:2], (values.mean(), values.std()), rtol=1e-13)


@pytest.mark.parametrize(
    "bounds", [(-2, 2), (-1, 3), (0.5, 4), (-np.inf, 1), (3, np.inf), (5, 6), (30, 31), (-31, -30)]
)
def test_promised_moments_of_the_truncated_normal_are_those_of_scipy(bounds):
    stats = pytest.importorskip("scipy.stats")
    found = predict_moments(TruncatedNormal(0.25, 2.0, *map(float, bounds)), ELEMENT_TYPES["float32"], (9, 9))
    truncated = stats.truncnorm(*bounds, loc=0.25, scale=2.0)
    close = 1e-6 if (bounds[0] > -30 and bounds[1] < 31) or np.inf in np.abs(bounds) else 1e-3  # scipy's loses digits
    np.testing.assert_allclose(found[:2], (truncated.mean(), truncated.std()), rtol=close)


def test_promised_bounds_of_the_normal_are_those_of_the_kernel():
    found = predict_moments(Normal(1.0, 0.5), ELEMENT_TYPES["float32"], (9, 9))
    assert found.mean == 1.0
    assert found.std == 0.5
    assert found.max == pytest.approx(1.0 + 0.5 * 6.5557, rel=1e-5)
