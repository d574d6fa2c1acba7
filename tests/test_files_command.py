"""``winit-fast fill``, ``verify``, ``clean``, ``schemes`` and ``bench``: every option, every refusal, every end."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from processes import COMMAND, PATIENCE, printed, python

import winit_fast
from winit_fast import files
from winit_fast.__main__ import COMMANDS, main
from winit_fast.commands import bench
from winit_fast.files import TensorSpec, Written, writing

SCHEME = "normal(std=0.01)"
TABLE = ["--shape", "1000x64", "--dtype", "float16", "--scheme", SCHEME, "--seed", "7", "--name", "user_id"]


def expected(shape=(1000, 64), dtype="float16", scheme=SCHEME, name="user_id", **arguments):
    return winit_fast.fill(winit_fast.empty(shape, dtype), scheme, seed=7, name=name, **arguments)


@pytest.fixture(autouse=True)
def no_ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked(monkeypatch):
    """What the command asks `write` for, which writes nothing."""
    calls = []

    def write(path, tensors, **arguments):
        calls.append({"path": path, "tensors": tensors, **arguments})
        return Written(path, 10_240_000_000, 6_200_000_000, 4_040_000_000)

    monkeypatch.setattr(files, "write", write)
    return calls


# What is written


def test_one_tensor_by_flags(tmp_path, capsys):
    assert main(["fill", str(tmp_path / "a.raw"), *TABLE]) == 0
    assert (tmp_path / "a.raw").read_bytes() == expected().tobytes()
    assert capsys.readouterr().out == "wrote 128.0 kB\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]


def test_every_flag_of_a_tensor_is_heeded(tmp_path):
    axes = ["--in-axis", "0,1", "--out-axis", "2", "--padding-idx", "3"]
    given = ["--shape", "5,6,7", "--scheme", "he_normal", "--seed", "7", "--name", "a", *axes]
    assert main(["fill", str(tmp_path / "a.raw"), *given]) == 0
    wanted = expected((5, 6, 7), "float32", "he_normal", "a", in_axis=(0, 1), out_axis=2, padding_idx=3)
    assert (tmp_path / "a.raw").read_bytes() == wanted.tobytes()
    given = ["--shape", "50x60", "--scheme", "he_normal", "--seed", "7", "--name", "a", "--layout", "torch"]
    assert main(["fill", str(tmp_path / "b.raw"), *given]) == 0
    assert (tmp_path / "b.raw").read_bytes() == expected(
        (50, 60), "float32", "he_normal", "a", in_axis=1, out_axis=0
    ).tobytes()


@pytest.mark.parametrize(
    ("text", "shape"),
    [("1000x64", (1000, 64)), ("1_000,64", (1000, 64)), ("(7,)", (7,)), ("7", (7,)), ("()", ()), ("0x64", (0, 64))],
)
def test_shapes_are_read_as_people_write_them(text, shape, asked):
    assert main(["fill", "a.raw", "--shape", text, "--scheme", "zeros", "--name", "a"]) == 0
    assert asked[0]["tensors"] == (TensorSpec("a", shape, "float32", "zeros"),)
    assert asked[0]["seed"] is None


def test_many_tensors_by_a_recipe(tmp_path):
    recipe = {"seed": 7, "dtype": "float16", "tensors": {"user_id": [1000, 64], "b": [5]}, "rules": {"*": SCHEME}}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    assert main(["fill", str(tmp_path / "a.raw"), "--recipe", str(tmp_path / "r.json")]) == 0
    assert (tmp_path / "a.raw").read_bytes() == expected().tobytes() + expected((5,), name="b").tobytes()


def test_flags_count_more_than_the_recipe(tmp_path, asked):
    recipe = {"seed": 7, "dtype": "float16", "layout": "torch", "tensors": {"a": [3, 4]}, "rules": {"*": "he_normal"}}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    given = ["--recipe", str(tmp_path / "r.json"), "--seed", "8", "--dtype", "float64", "--layout", "numpy"]
    assert main(["fill", "x.raw", *given, "--rule", "b", "zeros", "--rule", "a", "lecun_normal"]) == 0
    assert asked[0]["seed"] == 8
    assert asked[0]["tensors"] == (TensorSpec("a", (3, 4), "float64", "lecun_normal"),)
    assert main(["fill", "x.raw", "--recipe", str(tmp_path / "r.json")]) == 0
    assert asked[1]["seed"] == 7
    assert asked[1]["tensors"] == (TensorSpec("a", (3, 4), "float16", "he_normal", in_axis=1, out_axis=0),)


def test_every_other_option_is_handed_on(asked, capsys):
    assert main(["fill", "a.raw", *TABLE]) == 0
    assert {key: asked[0][key] for key in asked[0] if key not in ("path", "tensors", "progress")} == {
        "seed": 7, "format": None, "memory": "256MiB", "threads": None, "resume": False, "force": False, "rank": 0,
        "world_size": 1, "rows": None, "max_file_size": None,
    }  # fmt: skip
    more = ["--format", "npy", "--memory", "1GB", "--threads", "3", "--resume", "--force", "--rows", "100:200"]
    assert main(["fill", "a.raw", *TABLE, *more]) == 0
    assert {key: asked[1][key] for key in asked[1] if key not in ("path", "tensors", "progress")} == {
        "seed": 7, "format": "npy", "memory": "1GB", "threads": 3, "resume": True, "force": True, "rank": 0,
        "world_size": 1, "rows": (100, 200), "max_file_size": None,
    }  # fmt: skip
    assert main(["fill", "folder", *TABLE, "--max-file-size", "5GB", "--rank", "2", "--world-size", "4"]) == 0
    assert (asked[2]["rank"], asked[2]["world_size"], asked[2]["max_file_size"]) == (2, 4, "5GB")
    assert capsys.readouterr().out == "kept 6.2 GB, wrote 4.0 GB\n" * 3


def test_ranks_of_a_folder_are_those_of_torchrun(asked, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    for file, options, wanted in [
        ("folder", [], (3, 8)),
        ("folder", ["--rank", "0", "--world-size", "2"], (0, 2)),
        ("a.raw", ["--rows", "0:9"], (0, 1)),
        ("odd.name", ["--format", "dcp"], (3, 8)),
        ("folder", ["--format", "raw", "--rows", "0:9"], (0, 1)),
    ]:
        assert main(["fill", file, *TABLE, *options]) == 0
        assert (asked[-1]["rank"], asked[-1]["world_size"]) == wanted, (file, options)
    monkeypatch.delenv("WORLD_SIZE")
    assert main(["fill", "folder", *TABLE]) == 0
    assert (asked[-1]["rank"], asked[-1]["world_size"]) == (0, 1)


@pytest.mark.parametrize(("file", "options"), [("a.npy", []), ("folder", ["--format", "raw"])])
def test_ranks_of_torchrun_do_not_fight_for_one_file(file, options, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["fill", file, *TABLE, *options]) == 2
    message = f"WORLD_SIZE is 2, and {file} is one file: give a folder with --format dcp or hf, or --rows"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["fill", file, *TABLE, *options, "--rows", "0:9"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert main(["fill", file, *TABLE, *options, "--force"]) == 0


def test_ranks_of_torchrun_continue_files_of_some_rows(unfinished, tmp_path, capsys, monkeypatch):
    """By the command that is printed, which has no --rows."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert unfinished(options=["--rows", "0:100000"]) == 130
    assert main(continuing(capsys.readouterr().err)[-5:]) == 0
    assert (tmp_path / "a.raw").read_bytes() == expected((200000, 64), "float32")[:100000].tobytes()


def test_one_rank_shows_how_far_it_is(asked):
    for options, is_shown in [
        ([], True), (["--quiet"], False), (["--no-progress"], False), (["--quiet", "--progress"], True),
        (["--rank", "0", "--world-size", "2"], True), (["--rank", "1", "--world-size", "2"], False),
        (["--rank", "1", "--world-size", "2", "--progress"], True),
    ]:  # fmt: skip
        assert main(["fill", "folder", *TABLE, *options]) == 0
        assert (asked[-1]["progress"] is not None) == is_shown, options


def test_quiet_prints_nothing(tmp_path, capsys):
    assert main(["fill", str(tmp_path / "a.raw"), *TABLE, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_resume_of_a_complete_file_says_so_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert main(["fill", str(path), *TABLE, "--quiet"]) == 0
    before = path.stat()
    assert main(["fill", str(path), "--resume"]) == 0
    assert main(["fill", str(path), *TABLE, "--resume"]) == 0
    assert capsys.readouterr().out == f"{path} is complete: kept 132.1 kB, wrote nothing\n" * 2
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "a tensor must be given: --shape, --scheme and --name, or --recipe, or --like; or --resume"),
        (["--shape", "3x4", "--scheme", "zeros"], "--name must be given, too: one tensor needs --shape, --scheme and"),
        (["--name", "a", "--scheme", "zeros"], "--shape must be given, too"),
        (["--name", "a"], "--shape and --scheme must be given, too"),
        (["--seed", "7"], "--seed needs a tensor"),
        (["--dtype", "float16", "--resume"], "--dtype needs a tensor"),
        (["--layout", "torch", "--resume"], "--layout needs a tensor"),
        (["--rows", "0:9", "--resume"], "--rows needs a tensor"),
        (["--format", "npy", "--resume"], "--format needs a tensor"),
        (["--max-file-size", "1GB", "--resume"], "--max-file-size needs a tensor"),
        (["--shape", "3xfour", "--scheme", "zeros", "--name", "a"], "must be sizes such as 40000000x128, got '3xfour'"),
        ([*TABLE, "--in-axis", "x"], "must be axes such as 0 or 0,1, got 'x'"),
        ([*TABLE, "--scheme", "he_normal", "--in-axis", "5"], "tensor 'user_id' cannot be made: in_axis"),
        ([*TABLE, "--padding-idx", "1000"], "tensor 'user_id' cannot be made: padding_idx"),
        ([*TABLE, "--shape=-3x4"], "shape must not be negative, got (-3, 4)"),
        ([*TABLE, "--shape", f"{1 << 62}x64"], "fewer than 2^63 bytes"),
        ([*TABLE, "--shape", "9" * 30], "fewer than 2^63 bytes"),
        ([*TABLE, "--scheme", "he_norml"], "did you mean 'he_normal'?"),
        ([*TABLE, "--scheme", "normal(std=1e9)"], "float16"),
        ([*TABLE, "--dtype", "int8"], "invalid choice: 'int8'"),
        ([*TABLE, "--dtype", "bf16"], "--dtype: invalid choice: 'bf16'; did you mean bfloat16?"),
        ([*TABLE, "--dtype", "torch.float16"], "--dtype: invalid choice: 'torch.float16'; did you mean float16?"),
        ([*TABLE, "--seed", str(1 << 64)], "seed must be an int in [0, 2^64)"),
        ([*TABLE, "--seed", "-1"], "must be an int >= 0, got -1"),
        (TABLE[:6] + TABLE[8:], "fill: --seed must be given"),
        ([*TABLE, "--format", "h5"], "fill: --format must be one of npy"),
        ([*TABLE, "--memory", "much"], "fill: --memory must be a number of bytes, such as"),
        ([*TABLE, "--memory", "1kB"], "memory must be at least"),
        ([*TABLE, "--threads", "0"], "must be an int >= 1, got 0"),
        ([*TABLE, "--max-file-size", "1GB"], "fill: --max-file-size is for a folder of format hf"),
        ([*TABLE, "--rows", "7"], "must be two numbers of rows such as 0:1000, got '7'"),
        ([*TABLE, "--rows", "a:b"], "must be two numbers of rows such as 0:1000, got 'a:b'"),
        ([*TABLE, "--rank", "0"], "--rank and --world-size must be given together"),
        ([*TABLE, "--rank", "0", "--world-size", "2"], "are for a folder, and"),
        (
            [*TABLE, "--format", "dcp", "--rank", "2", "--world-size", "2"],
            "--rank must be in [0, world size) = [0, 2), got 2",
        ),
        ([*TABLE, "--world-size", "0"], "must be an int >= 1, got 0"),
        ([*TABLE, "--recipe", "r.json"], "--shape says what one tensor is, and cannot be used with --recipe"),
        (["--rule", "*", "zeros"], "--rule needs the names of tensors: --recipe or --like"),
        (["--recipe", "missing.json"], "missing.json"),
        (["--like", "missing"], "missing"),
        (["--like", "", "--rule", "*", "ones"], "fill: --like must be a name, got ''"),
        (["--recipe", ""], "fill: --recipe must be a name, got ''"),
        ([*TABLE, "--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_written(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fill", "a.raw", *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_and_a_model_have_tensors_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text('{"tensors": {"a": [3]}, "rules": {"*": "zeros"}}')
    (tmp_path / "none.json").write_text('{"rules": {"*": "zeros"}}')
    assert main(["fill", "a.raw", "--recipe", "a.json", "--like", "model"]) == 2
    assert "--like takes the tensors of a model, and a.json has tensors of its own" in capsys.readouterr().err
    assert main(["fill", "a.raw", "--recipe", "none.json"]) == 2
    assert "none.json must have tensors, unless --like gives them" in capsys.readouterr().err


def test_a_bad_environment_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "first")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["fill", "folder", *TABLE]) == 2
    assert "RANK and WORLD_SIZE of the environment must be integers, got 'first' and '2'" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "2")
    assert main(["fill", "folder", *TABLE]) == 2
    assert "--rank must be in [0, world size) = [0, 2), got 2" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_until_forced(tmp_path, capsys):
    path = tmp_path / "a.raw"
    path.write_bytes(b"somebody's work")
    assert main(["fill", str(path), *TABLE]) == 2
    assert f"{path} exists already; --force replaces it" in capsys.readouterr().err
    assert path.read_bytes() == b"somebody's work"
    assert main(["fill", str(path), *TABLE, "--force"]) == 0
    assert path.read_bytes() == expected().tobytes()


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert main(["fill", str(tmp_path / "no" / "a.raw"), *TABLE]) == 2
    assert "must be in a folder that exists" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_resume_is_named(tmp_path, capsys):
    assert main(["fill", str(tmp_path / "a.raw"), "--resume"]) == 2
    assert "nothing to continue" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# What an interrupt leaves

LARGE = ["--shape", "200000x64", "--dtype", "float32", "--scheme", SCHEME, "--seed", "7", "--name", "user_id"]
SMALL_BLOCKS = ["--memory", "256KiB"]  # 128 KiB each: 391 of them


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """A file whose writing was interrupted in the middle, and what the command said and returned."""

    def make(error=KeyboardInterrupt, options=()):
        def stop(done, total):
            if done >= total // 2:
                raise error

        with monkeypatch.context() as patch:
            patch.setattr(writing, "_REPORT_SECONDS", 0.0)
            patch.setattr(files, "write", lambda *a, write=files.write, **k: write(*a, **{**k, "progress": stop}))
            return main(["fill", str(tmp_path / "a.raw"), *LARGE, *SMALL_BLOCKS, *options])

    return make


def split(command):
    """The words of a command, as the shell of this system takes them; Windows' quotes with double ones alone."""
    if os.name == "nt":
        return [word.strip('"') for word in shlex.split(command, posix=False)]
    return shlex.split(command)


def continuing(err):
    """The command that a message ends with."""
    return split(re.search(r"continue with: (.+)\n", err)[1])


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, 130), (SystemExit(143), 143), (SystemExit(129), 129)]
)
def test_an_interrupt_keeps_what_is_written_and_says_how_to_go_on(error, status, unfinished, tmp_path, capsys):
    assert unfinished(error) == status
    out, err = capsys.readouterr()
    again = continuing(err)
    assert err.startswith("interrupted; continue with: ")
    assert out == ""
    assert again[-5:] == ["fill", str(tmp_path / "a.raw"), "--resume", "--memory", "256KiB"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.raw.partial", "a.raw.partial.journal"]
    assert main(again[-5:]) == 0
    kept, wrote = re.fullmatch(r"kept (.+) MB, wrote (.+) MB\n", capsys.readouterr().out).groups()
    assert float(kept) > 20
    assert float(kept) + float(wrote) == pytest.approx(51.2, abs=0.2)
    assert (tmp_path / "a.raw").read_bytes() == expected((200000, 64), "float32").tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.raw"]


def test_an_interrupt_before_anything_is_written_leaves_nothing(asked, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", interrupt)
    assert main(["fill", str(tmp_path / "a.raw"), *TABLE]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was written that could be kept\n"


def test_an_interrupted_folder_is_continued_by_the_same_command(tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", interrupt)
    given = ["fill", str(tmp_path / "my model"), *TABLE, "--rank", "1", "--world-size", "2"]
    assert main(given) == 130
    assert continuing(capsys.readouterr().err)[-len(given) - 1 :] == [*given, "--resume"]
    assert main([*given, "--resume"]) == 130
    assert continuing(capsys.readouterr().err)[-len(given) - 1 :] == [*given, "--resume"]


def test_the_command_that_continues_a_folder_names_the_rank_of_the_environment(tmp_path, capsys, monkeypatch):
    """A plain shell, which has no such environment, would write all of it as the only worker."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", interrupt)
    given = ["fill", str(tmp_path / "tables"), *TABLE, "--format", "dcp"]
    wanted = [*given, "--resume", "--rank", "1", "--world-size", "2"]
    with monkeypatch.context() as torchrun:
        torchrun.setenv("RANK", "1")
        torchrun.setenv("WORLD_SIZE", "2")
        assert main(given) == 130
        assert continuing(capsys.readouterr().err)[-len(wanted) :] == wanted
    assert main(wanted) == 130
    assert continuing(capsys.readouterr().err)[-len(wanted) :] == wanted


def test_standard_output_is_no_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in (TABLE, [*TABLE, "--format", "raw"], ["--resume"]):
        assert main(["fill", "-", *options]) == 2
        err = capsys.readouterr().err
        assert "FILE must be a name, got '-': values are not written to standard output" in err
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_file_is_refused_with_the_options_that_help(unfinished, tmp_path, capsys):
    unfinished()
    capsys.readouterr()
    before = (tmp_path / "a.raw.partial").read_bytes()
    assert main(["fill", str(tmp_path / "a.raw"), *LARGE, *SMALL_BLOCKS]) == 2
    err = capsys.readouterr().err
    assert "--resume continues it, --force begins again, the command clean removes it" in err
    assert (tmp_path / "a.raw.partial").read_bytes() == before
    assert main(["fill", str(tmp_path / "a.raw"), *TABLE, "--force", "--quiet"]) == 0
    assert (tmp_path / "a.raw").read_bytes() == expected().tobytes()


def test_another_recipe_is_refused_by_what_differs(unfinished, tmp_path, capsys):
    unfinished()
    capsys.readouterr()
    other = [*LARGE[:-4], "--seed", "8", "--name", "user_id"]
    assert main(["fill", str(tmp_path / "a.raw"), *other, *SMALL_BLOCKS, "--resume"]) == 2
    assert "seed: 7 there, 8 asked for" in capsys.readouterr().err


def test_a_full_disk_keeps_what_is_written_and_says_how_to_go_on(unfinished, tmp_path, capsys):
    assert unfinished(OSError(errno.ENOSPC, "No space left on device")) == 2
    err = capsys.readouterr().err
    assert err.startswith("python -m winit_fast fill: No space left on device; continue with: ")
    assert main(continuing(err)[-5:]) == 0
    assert (tmp_path / "a.raw").read_bytes() == expected((200000, 64), "float32").tobytes()


@pytest.mark.parametrize("kind", ["hf", "dcp"])
def test_a_full_disk_says_how_to_go_on_with_a_folder(kind, unfinished, tmp_path, capsys):
    assert unfinished(OSError(errno.ENOSPC, "No space left on device"), ["--format", kind]) == 2
    again = continuing(capsys.readouterr().err)
    assert main(again[again.index("fill") :]) == 0
    kept, _ = re.fullmatch(r"kept (.+) MB, wrote (.+) MB\n", capsys.readouterr().out).groups()
    assert float(kept) > 20
    assert main(["verify", str(tmp_path / "a.raw")]) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_real_signal_keeps_the_partial_and_the_printed_command_goes_on(name, tmp_path):
    number = getattr(signal, name)
    place = ["my tables", "a.raw"]  # a name that a shell would cut
    (tmp_path / place[0]).mkdir()
    path = tmp_path / place[0] / place[1]
    sizes = ["--shape", "65536x256", "--dtype", "float32", "--scheme", SCHEME, "--seed", "7", "--name", "user_id"]
    command = [*COMMAND, "fill", str(path), *sizes, "--threads", "1", "--memory", "256KiB"]
    journal = path.with_name("a.raw.partial.journal")
    for _ in range(20):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while child.poll() is None and not (journal.exists() and journal.stat().st_size > 1000):
            time.sleep(0.001)
        child.send_signal(number)
        out, err = child.communicate(timeout=PATIENCE)
        if not path.exists():
            break
        path.unlink()  # it was faster than the signal
    assert child.returncode == (-number if name == "SIGKILL" else 128 + number), err
    assert out == ""
    again = ["fill", str(path), "--resume", "--memory", "256KiB", "--threads", "1"]
    if name != "SIGKILL":
        assert split(re.search(r"interrupted; continue with: python -m winit_fast (.+)\n$", err)[1]) == again
    done = python("-m", "winit_fast", *again)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"kept .+, wrote .+ MB\n", done.stdout)
    table = np.memmap(path, "float32", "r", shape=(65536, 256))
    assert np.array_equal(table, expected(table.shape, "float32"))
    assert [one.name for one in path.parent.iterdir()] == ["a.raw"]


# verify


def spoil(path, element, dtype="float16", value=0.5):
    """Overwrite a value of the last tensor of a file, counted from the end."""
    with open(path, "r+b") as file:
        file.seek(-element * np.dtype(dtype).itemsize, 2)
        file.write(np.array(value, dtype).tobytes())


@pytest.fixture
def table(tmp_path, capsys):
    """A safetensors file that says how it was made."""
    path = tmp_path / "t.safetensors"
    assert main(["fill", str(path), *TABLE, "--quiet"]) == 0
    return path


def test_verify_needs_nothing_but_the_file(table, capsys):
    assert main(["verify", str(table)]) == 0
    assert capsys.readouterr().out == "compared 128.0 kB: all of it is as it should be\n"
    assert main(["verify", str(table), "--quiet"]) == 0
    assert main(["verify", str(table), "--sample", "100", "--memory", "1MiB", "--threads", "2", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_verify_prints_the_first_difference_and_returns_1(table, capsys):
    spoil(table, 1)
    spoil(table, 64 * 3 + 10)
    assert main(["verify", str(table), "--quiet"]) == 1
    value = str(expected()[996, 54])
    assert capsys.readouterr() == (f"user_id (996, 54): found 0.5, expected {value}\n", "")


def test_verify_of_a_file_that_was_cut_returns_1(table, capsys):
    os.truncate(table, table.stat().st_size - 1)
    assert main(["verify", str(table)]) == 1
    assert capsys.readouterr().out.startswith(f"missing: {table} ends at byte ")


@pytest.mark.parametrize("name", ["t.npy", "t.raw", "t.bin"])
def test_verify_takes_the_options_of_fill_where_a_file_says_nothing(name, tmp_path, capsys):
    path = tmp_path / name
    assert main(["fill", str(path), *TABLE, "--quiet", "--rows", "100:300"]) == 0
    assert main(["verify", str(path)]) == 2
    assert "does not say how it was made" in capsys.readouterr().err
    assert main(["verify", str(path), *TABLE, "--rows", "100:300"]) == 0
    (tmp_path / "r.json").write_text(
        json.dumps({"seed": 7, "dtype": "float16", "tensors": {"user_id": [1000, 64]}, "rules": {"*": SCHEME}})
    )
    assert main(["verify", str(path), "--recipe", str(tmp_path / "r.json"), "--rows", "100:300"]) == 0
    capsys.readouterr()
    assert main(["verify", str(path), "--recipe", str(tmp_path / "r.json"), "--seed", "8", "--rows", "100:300"]) == 1
    assert capsys.readouterr().out.startswith("user_id (100, 0): found ")


def test_verify_of_a_file_that_says_one_thing_against_another(table, capsys):
    assert main(["verify", str(table), *TABLE, "--seed", "8"]) == 1
    assert capsys.readouterr().out.startswith("user_id (0, 0): found ")


@pytest.fixture
def shards(tmp_path, capsys):
    """A folder by two ranks."""
    for rank in ("1", "0"):
        given = ["--format", "dcp", "--rank", rank, "--world-size", "2", "--quiet"]
        assert main(["fill", str(tmp_path / "tables"), *TABLE, *given]) == 0
    return sorted((tmp_path / "tables").iterdir())


def test_verify_of_a_folder_finds_what_differs_what_is_missing_and_what_is_stray(shards, capsys):
    folder = shards[0].parent
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == "compared 128.0 kB: all of it is as it should be\n"
    spoil(shards[1], 1)
    assert main(["verify", str(folder)]) == 1
    assert capsys.readouterr().out.endswith(f"expected {expected()[999, 63]!s} in {shards[1].name}\n")
    other = [*TABLE, "--name", "item_id", "--quiet"]
    assert main(["fill", str(folder / "stray.safetensors"), *other]) == 0
    shards[1].unlink()
    assert main(["verify", str(folder), "--quiet"]) == 1
    out = capsys.readouterr().out
    assert "missing: user_id [500:1000, 0:64] is in no file" in out
    assert re.search(r"^does not belong here: .*stray.safetensors", out, flags=re.MULTILINE)


def test_verify_prints_what_is_missing_before_what_two_files_hold(shards, capsys):
    (shards[0].parent / "copy.safetensors").write_bytes(shards[0].read_bytes())
    shards[1].rename(shards[1].with_suffix(".safetensors.partial"))
    assert main(["verify", str(shards[0].parent)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "missing: user_id [500:1000, 0:64] is in no file",
        f"in more than one file: user_id [0:500, 0:64] is in copy.safetensors and {shards[0].name}",
        f"left over: {shards[1].name}.partial was never finished, or is being written",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample", "0"], "must be an int >= 1, got 0"),
        (["--memory", "much"], "memory must be a number of bytes"),
        (["--threads", "0"], "must be an int >= 1, got 0"),
        (["--rows", "0:9"], "verify: --rows is for files of format raw and npy"),
        (["--seed", "7"], "--seed needs a tensor"),
        (["--recipe", "no.json"], "no.json"),
        (["--shape", "3"], "--scheme and --name must be given, too"),
    ],
)
def test_what_verify_cannot_use_is_named(options, message, table, capsys):
    assert main(["verify", str(table), *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""


def test_verify_of_what_it_cannot_read_returns_2(tmp_path, capsys):
    (tmp_path / "t.safetensors").write_bytes(b"somebody's work")
    assert main(["verify", str(tmp_path / "t.safetensors")]) == 2
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "status"), [(KeyboardInterrupt, 130), (SystemExit(143), 143)])
def test_an_interrupt_of_verify_has_its_status(ending, status, table, monkeypatch):
    def interrupt(*_, **__):
        raise ending

    monkeypatch.setattr(files, "verify", interrupt)
    try:
        found = main(["verify", str(table)])
    except SystemExit as error:
        found = error.code
    assert found == status


# Models and folders


def test_a_model_like_another_has_its_names_and_shapes_and_types(tmp_path, capsys):
    recipe = {"dtype": "float16", "tensors": {"embed.weight": [100, 8], "norm.weight": [8]}, "rules": {"*": "ones"}}
    recipe["tensors"] |= {f"layers.{k}.weight": {"shape": [8, 16], "dtype": "float32"} for k in range(3)}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["fill", first, "--recipe", str(tmp_path / "r.json"), "--max-file-size", "1200"]) == 0
    assert (tmp_path / "first" / "model.safetensors.index.json").exists()
    rules = ["--rule", "norm.*", "ones", "--rule", "embed.*", SCHEME, "--rule", "*.weight", "he_normal"]
    given = ["--like", first, *rules, "--seed", "7", "--max-file-size", "1200"]
    assert main(["fill", second, *given]) == 0
    assert main(["verify", second]) == 0
    names = [[path.name for path in sorted((tmp_path / which).iterdir())] for which in ("first", "second")]
    assert names[0] == names[1]
    assert len(names[0]) > 2
    safetensors = pytest.importorskip("safetensors.numpy")
    found = {}
    for path in (tmp_path / "second").glob("*.safetensors"):
        found |= safetensors.load_file(path)
    for name, shape, dtype, scheme, axes in [
        ("embed.weight", (100, 8), "float16", SCHEME, {}),
        ("norm.weight", (8,), "float16", "ones", {}),
        ("layers.1.weight", (8, 16), "float32", "he_normal", {"in_axis": 1, "out_axis": 0}),
    ]:
        assert found[name].tobytes() == expected(shape, dtype, scheme, name, **axes).tobytes()
    assert main(["fill", str(tmp_path / "third"), "--like", first, "--rule", "norm.*", "ones"]) == 2
    assert "none takes 'embed.weight'" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_a_checkpoint_like_a_model_is_verified_with_and_without_it(tmp_path, capsys):
    """Where the files themselves stand for the model too."""
    recipe = {"tensors": {"embed.weight": [100, 8], "norm.weight": [1], "scale": []}, "rules": {"*": "ones"}}
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["fill", first, "--recipe", str(tmp_path / "r.json"), "--format", "hf"]) == 0
    rules = ["--rule", "norm.*", "ones", "--rule", "*", SCHEME, "--seed", "7"]
    for rank in "01":
        ranks = ["--format", "dcp", "--rank", rank, "--world-size", "2"]
        assert main(["fill", second, "--like", first, *rules, *ranks]) == 0
    for given in ([], ["--like", first, *rules], ["--like", second, *rules]):
        capsys.readouterr()
        assert main(["verify", second, *given]) == 0
        assert capsys.readouterr().out.endswith("all of it is as it should be\n")
    assert main(["verify", second, "--like", second, *rules, "--seed", "8"]) == 1
    sorted((tmp_path / "second").iterdir())[1].unlink()
    assert main(["verify", second, "--like", first, *rules]) == 1
    assert "missing: embed.weight [50:100, 0:8] is in no file" in capsys.readouterr().out
    assert main(["verify", second, "--like", second, *rules]) == 2
    assert "parts of 'embed.weight' must make up the whole of it" in capsys.readouterr().err


def test_a_folder_needs_its_options_again(shards, capsys):
    folder = shards[0].parent
    assert main(["fill", str(folder), "--resume"]) == 2
    assert "is a folder: --resume needs the other options that it was begun with, too" in capsys.readouterr().err
    given = ["--format", "dcp", "--rank", "0", "--world-size", "2", "--resume"]
    assert main(["fill", str(folder), *TABLE, *given]) == 0
    assert "the part of worker 0 of 2 is complete: kept" in capsys.readouterr().out


def test_a_worker_without_a_file_says_so(tmp_path, capsys):
    ranks = ["--format", "hf", "--rank", "1", "--world-size", "2"]
    assert main(["fill", str(tmp_path / "tables"), *TABLE, *ranks]) == 0
    assert capsys.readouterr().out == "worker 1 of 2 has no file to write\n"


def test_a_rule_that_matches_nothing_is_named(tmp_path, capsys):
    recipe = tmp_path / "tables.json"
    recipe.write_text('{"seed": 7, "tensors": {"user_id": [9, 4]}, "rules": {"*": "normal"}}')
    wrong = ["--recipe", str(recipe), "--rule", "user_idd", "ones"]
    assert main(["fill", str(tmp_path / "a.npy"), *wrong]) == 0
    assert "note: the rule for 'user_idd' matches no tensor\n" in capsys.readouterr().err
    assert main(["fill", str(tmp_path / "b.npy"), *wrong, "--quiet"]) == 0
    assert main(["fill", str(tmp_path / "c.npy"), "--recipe", str(recipe)]) == 0
    assert "note" not in capsys.readouterr().err


def test_warnings_of_libraries_are_no_notes(tmp_path, capsys, monkeypatch):
    kept = files.read_recipe

    def read_recipe(*given, **options):
        warnings.warn("a library is old", DeprecationWarning, stacklevel=1)
        return kept(*given, **options)

    monkeypatch.setattr(files, "read_recipe", read_recipe)
    (tmp_path / "r.json").write_text(json.dumps({"tensors": {"a": [4]}, "rules": {"*": "ones", "b": "zeros"}}))
    assert main(["fill", str(tmp_path / "a.raw"), "--recipe", str(tmp_path / "r.json")]) == 0
    assert capsys.readouterr().err == "note: the rule for 'b' matches no tensor\n"


def test_resume_of_a_complete_file_that_is_another_says_so(tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert main(["fill", str(path), *TABLE]) == 0
    before = path.read_bytes()
    assert main(["fill", str(path), *TABLE, "--seed", "8", "--resume"]) == 2
    message = "exists already, and is not what is asked for: seed: 7 there, 8 asked for; --force replaces it"
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["fill", str(path), *TABLE, "--seed", "8", "--resume", "--force"]) == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "options", "difference"),
    [
        ("a.safetensors", ["--scheme", "uniform"], ": scheme of 'user_id': 'normal(std=0.01)' there, 'uniform"),
        ("a.safetensors", ["--rows", "0:500"], ": holds rows 0:1000 of 'user_id', 0:500 asked for; --force"),
        ("a.npy", ["--rows", "0:500"], ": shape: (1000, 64) there, (500, 64) asked for; --force"),
        ("a.npy", ["--dtype", "float32"], ": dtype: float16 there, float32 asked for; --force"),
        ("a.raw", ["--rows", "0:500"], ": size: 128000 there, 64000 asked for; --force"),
        ("a.raw", ["--seed", "8"], " (verify says how it differs): --force"),
        ("a.npy", ["--seed", "8"], " (verify says how it differs): --force"),
    ],
)
def test_resume_of_a_complete_file_says_how_it_differs(name, options, difference, tmp_path, capsys):
    path = tmp_path / name
    assert main(["fill", str(path), *TABLE]) == 0
    assert main(["fill", str(path), *TABLE, *options, "--resume"]) == 2
    assert f"{path} exists already, and is not what is asked for{difference}" in capsys.readouterr().err


def test_resume_names_what_a_strangers_file_lacks(tmp_path, capsys):
    text = b'{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(6))
    assert main(["fill", str(path), *TABLE, "--resume"]) == 2
    assert "is not what is asked for: holds 'a', which is not asked for; --force" in capsys.readouterr().err


def test_resume_of_an_unfinished_file_of_other_rows_names_both(unfinished, tmp_path, capsys):
    unfinished(options=["--rows", "0:100000"])
    capsys.readouterr()
    assert main(["fill", str(tmp_path / "a.raw"), *LARGE, *SMALL_BLOCKS, "--resume"]) == 2
    assert "another recipe: holds rows 0:100000 of 'user_id', 0:200000 asked for" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.npy", "a.raw", "a.safetensors"])
def test_resume_calls_no_strangers_file_complete(name, tmp_path, capsys):
    path = tmp_path / name
    assert main(["fill", str(path), *TABLE]) == 0
    for content in (b"hi\n", b"", path.read_bytes()[:-1], path.read_bytes()[:-2] + b"hi"):
        path.write_bytes(content)
        capsys.readouterr()
        assert main(["fill", str(path), "--resume"]) == 2
        assert str(path) in capsys.readouterr().err
        assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["a.npy", "a.raw", "a.safetensors"])
def test_resume_of_a_file_without_a_recipe_asks_for_the_tensors(name, tmp_path, capsys):
    path = tmp_path / name
    if name == "a.safetensors":
        text = b'{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]}}'
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(6))
    else:
        assert main(["fill", str(path), *TABLE]) == 0
    before = path.read_bytes()
    for options in ([], ["--force"]):
        assert main(["fill", str(path), "--resume", *options]) == 2
        err = capsys.readouterr().err
        assert f"{path} exists already, and does not say how it was made: --shape, --scheme, --name" in err
        assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"of a browser"])
def test_resume_of_a_partial_file_without_a_journal_asks_for_the_tensors(content, tmp_path, capsys):
    (tmp_path / "a.npy.partial").write_bytes(content)
    assert main(["fill", str(tmp_path / "a.npy"), "--resume"]) == 2
    assert ("has no journal: nothing of" if content else "is empty: nothing of") in capsys.readouterr().err
    assert (tmp_path / "a.npy.partial").read_bytes() == content


def test_verify_of_an_unfinished_file_says_how_to_go_on(unfinished, tmp_path, capsys):
    unfinished()
    capsys.readouterr()
    path = str(tmp_path / "a.raw")
    for options in ([], LARGE):
        assert main(["verify", path, *options]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"{path} is unfinished; continue with: " in err
        assert continuing(err)[-3:] == ["fill", path, "--resume"]
    assert main([*continuing(err)[-3:], "--quiet"]) == 0
    assert main(["verify", path, *LARGE]) == 0


def test_verify_of_a_folder_with_unfinished_files_alone_says_so(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "model.safetensors.partial").write_bytes(b"some")
    assert main(["verify", str(folder)]) == 2
    message = f"{folder} has unfinished files alone, such as model.safetensors.partial: continue with the command"
    assert message in capsys.readouterr().err
    assert main(["verify", str(folder), *TABLE]) == 1
    assert "left over: model.safetensors.partial" in capsys.readouterr().out


def test_verify_of_what_is_missing_asks_for_nothing_else(tmp_path, capsys):
    for name in ("a.npy", "a.safetensors", "a.bin"):
        assert main(["verify", str(tmp_path / name)]) == 2
        assert re.search("No such file|WinError 2]", capsys.readouterr().err)
    (tmp_path / "a.bin").write_bytes(b"some")
    assert main(["verify", str(tmp_path / "a.bin")]) == 2
    assert "--shape, --scheme, --name and so on, or --recipe, must be given" in capsys.readouterr().err


def test_a_sample_is_called_one(table, capsys):
    assert main(["verify", str(table), "--sample", "10"]) == 0
    assert re.fullmatch(r"compared a sample of .+: no difference in the sample\n", capsys.readouterr().out)


def test_ranks_without_a_format_are_told_the_two(tmp_path, capsys):
    assert main(["fill", str(tmp_path / "tables"), *TABLE, "--rank", "0", "--world-size", "2"]) == 2
    assert "format must be 'dcp' (each rank writes its rows) or 'hf'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.frameworks
def test_ranks_of_torchrun_write_one_checkpoint(tmp_path):
    pytest.importorskip("torch.distributed.run")
    fill = ["-m", "winit_fast", "fill", str(tmp_path / "tables"), *TABLE, "--format", "dcp"]
    done = python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", *fill)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "tables").iterdir())) == 3
    assert main(["verify", str(tmp_path / "tables"), "--quiet"]) == 0


# clean


def test_clean_removes_what_is_left_and_nothing_else(unfinished, tmp_path, capsys):
    unfinished()
    (tmp_path / "other.raw").write_bytes(b"somebody's work")
    capsys.readouterr()
    assert main(["clean", str(tmp_path / "a.raw")]) == 0
    out = capsys.readouterr().out
    assert out == f"removed {tmp_path / 'a.raw.partial'}\nremoved {tmp_path / 'a.raw.partial.journal'}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["other.raw"]
    assert main(["clean", str(tmp_path / "a.raw")]) == 0
    assert capsys.readouterr().out == f"nothing to remove at {tmp_path / 'a.raw'}\n"


@pytest.mark.parametrize("name", ["a.raw.partial", "a.raw.partial.journal"])
def test_clean_of_a_partial_file_is_that_of_the_file(name, unfinished, tmp_path, capsys):
    unfinished()
    capsys.readouterr()
    assert main(["clean", str(tmp_path / name)]) == 0
    out = capsys.readouterr().out
    assert out == f"removed {tmp_path / 'a.raw.partial'}\nremoved {tmp_path / 'a.raw.partial.journal'}\n"
    assert list(tmp_path.iterdir()) == []
    assert main(["clean", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out == f"nothing to remove at {tmp_path / name}\n"


def test_clean_takes_a_file_that_is_called_partial_for_itself(unfinished, tmp_path):
    unfinished()
    for name in ("a.raw.partial", "a.raw.partial.journal"):
        (tmp_path / name).rename(tmp_path / name.replace("raw", "partial"))
    (tmp_path / "a.partial").write_bytes(b"somebody's work")
    assert main(["clean", str(tmp_path / "a.partial")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]
    assert main(["clean", str(tmp_path / "a.partial")]) == 2
    assert (tmp_path / "a.partial").read_bytes() == b"somebody's work"


def test_clean_of_a_folder_cleans_each_file(unfinished, tmp_path):
    unfinished()
    (tmp_path / "whole.raw").write_bytes(b"somebody's work")
    assert main(["clean", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["whole.raw"]


def test_clean_of_a_folder_removes_all_that_is_ours_and_names_what_is_not(unfinished, tmp_path, capsys):
    unfinished()  # a.raw
    (tmp_path / "Notes.partial").write_bytes(b"somebody's work")  # before it in the order of names
    (tmp_path / "b.raw.partial.journal").write_bytes(b"left behind")
    capsys.readouterr()
    assert main(["clean", str(tmp_path)]) == 2
    assert "Notes.partial has no journal: winit_fast did not write it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["Notes.partial"]


def test_clean_refuses_what_is_not_ours(tmp_path, capsys):
    (tmp_path / "a.raw.partial").write_bytes(b"somebody's work")
    assert main(["clean", str(tmp_path / "a.raw")]) == 2
    assert "winit_fast did not write it" in capsys.readouterr().err
    assert (tmp_path / "a.raw.partial").exists()


# schemes, bench, and the commands as such


def test_schemes_lists_every_scheme_and_one_with_its_source(capsys):
    assert main(["schemes"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == len(winit_fast.schemes())
    assert all(info.name in out and str(info) in out for info in winit_fast.schemes())
    assert main(["schemes", "kaiming_normal"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("he_normal(")
    assert "arXiv:1502.01852" in out
    assert "kaiming_normal_(w) of torch.nn.init" in out
    assert main(["schemes", "he_normal(gain=2)"]) == 0
    assert capsys.readouterr().out == out
    assert main(["schemes", "he_norml"]) == 2
    assert "did you mean 'he_normal'?" in capsys.readouterr().err


def test_every_scheme_can_be_asked_for(capsys):
    for info in winit_fast.schemes():
        assert main(["schemes", info.name]) == 0, info.name


@pytest.mark.parametrize("folder", [False, True])
def test_bench_prints_one_table_and_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    options = ["--seconds", "0", "--megabytes", "1", "--threads", "2", *(["--folder", str(tmp_path)] if folder else [])]
    assert main(["bench", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("GB/s, 1 MiB")
    assert lines[1].split("  ")[-1] == "NumPy"
    assert "winit_fast, 2 threads" in lines[1]
    assert "torch" not in lines[1]
    assert len(lines) == 10 + folder
    assert all(re.search(r"\d\.\d\d", line) for line in lines[2:])
    assert list(tmp_path.iterdir()) == []


def test_bench_refuses_a_missing_folder_before_it_measures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "_measure", None)
    (tmp_path / "file").touch()
    for folder in (tmp_path / "no", tmp_path / "file"):
        assert main(["bench", "--folder", str(folder)]) == 2
        out, err = capsys.readouterr()
        assert f"bench: --folder must be a folder that exists, got {folder}" in err
        assert out == ""


def test_bench_of_one_thread_has_one_column(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    assert main(["bench", "--seconds", "0", "--megabytes", "1", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", lines[1].strip()) == ["winit_fast, 1 thread", "NumPy"]
    assert len(lines) == 6


@pytest.mark.frameworks
def test_bench_measures_torch_where_it_is(capsys):
    pytest.importorskip("torch")
    assert main(["bench", "--seconds", "0", "--megabytes", "1", "--threads", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "torch, " in lines[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: ")
    assert f" {name} [-h]" in out


def test_a_command_imports_nothing_that_it_does_not_need():
    code = """
import sys
from winit_fast.__main__ import main
assert main(["--help"]) == 0
print()
print(*sorted(name for name in sys.modules if name.startswith("winit_fast.") or name in ("tqdm", "tomllib", "hashlib")))
"""
    loaded = printed(code).splitlines()[-1].split()
    assert "winit_fast.__main__" in loaded
    for name in ("demo", "report", "files", "commands", "initializer", "adapters"):
        assert f"winit_fast.{name}" not in loaded
    assert "tqdm" not in loaded
    code = code.replace('["--help"]', '["clean", "there is no such file"]')
    loaded = printed(code).splitlines()[-1].split()
    assert "winit_fast.files" in loaded
    for name in ("winit_fast.demo", "winit_fast.report", "winit_fast.adapters", "tqdm", "tomllib"):
        assert name not in loaded
