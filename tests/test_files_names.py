"""Names that are taken by pipes, folders and links, and odd ones: refused at once, and left as they are."""

import os
import re
import stat

import pytest
from written_files import contents

from winit_fast.files import Recipe, TensorSpec, clean, plan, read_unfinished, verify, write
from winit_fast.files.recipes import read_model

SPEC = TensorSpec("t", (3001, 17), "float32", "normal")
fifos = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")


def make(path, **options):
    return write(path, SPEC, seed=7, memory=1 << 17, **options)


def interrupt(done, total):
    if done > 70_000:
        raise KeyboardInterrupt


@pytest.fixture
def pipe(tmp_path):
    """Makes a pipe that nobody writes to: whoever opens it to read waits for ever."""

    def of(name):
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return of


@fifos
@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
@pytest.mark.parametrize("name", ["t.safetensors", "t.safetensors.partial"])
def test_a_pipe_is_not_written(name, options, pipe, tmp_path):
    path = pipe(name)
    with pytest.raises(FileExistsError, match="must be a file, but it is a device or pipe"):
        make(tmp_path / "t.safetensors", **options)
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [one.name for one in tmp_path.iterdir()] == [name]


@fifos
@pytest.mark.parametrize("name", ["t.safetensors", "t.npy", "t.bin", "t"])
def test_a_pipe_is_not_verified(name, pipe):
    with pytest.raises(ValueError, match="must be a file, but it is a device or pipe"):
        verify(pipe(name), recipe=Recipe((SPEC,), 7))


@fifos
def test_a_pipe_in_a_folder_is_a_missing_file(pipe, tmp_path):
    make(tmp_path / "model", format="hf")
    os.mkfifo(tmp_path / "model" / "x.safetensors")
    (missing,) = verify(tmp_path / "model").missing
    assert missing == f"{tmp_path / 'model' / 'x.safetensors'} must be a file, but it is a device or pipe"
    with pytest.raises(ValueError, match="must be a file, but it is a device or pipe"):
        read_model(tmp_path / "model" / "x.safetensors")
    os.mkfifo(tmp_path / "model" / "model.safetensors.index.json")
    with pytest.raises(ValueError, match="must be a file, but it is a device or pipe"):
        verify(tmp_path / "model")


@fifos
@pytest.mark.parametrize("name", ["t.bin.partial.journal", "t.bin.partial.journal.new"])
def test_a_pipe_as_journal_is_not_waited_for(name, pipe, tmp_path, monkeypatch):
    monkeypatch.setattr("winit_fast.files.writing._REPORT_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "t.bin", progress=interrupt)
    (tmp_path / name).unlink(missing_ok=True)
    pipe(name)
    with pytest.raises((ValueError, OSError), match=r"must be a file|No such device"):
        make(tmp_path / "t.bin", resume=True)
    if name.endswith("journal"):
        with pytest.raises(ValueError, match="must be a file, but it is a device or pipe"):
            read_unfinished(tmp_path / "t.bin")
    assert stat.S_ISFIFO((tmp_path / name).stat().st_mode)
    assert not (tmp_path / "t.bin").exists()


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"force": True}])
@pytest.mark.parametrize("name", ["t.bin", "t.bin.partial", "t.bin.partial.journal", "t.bin.partial.journal.new"])
def test_a_folder_of_that_name_is_left_alone(name, options, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "within").write_bytes(b"somebody's")
    with pytest.raises(OSError, match=r"t\.bin"):
        make(tmp_path / "t.bin", format="raw", **options)
    if name == "t.bin.partial":
        with pytest.raises(OSError, match=r"t\.bin"):
            clean(tmp_path / "t.bin")
    assert [one.name for one in tmp_path.iterdir()] == [name]
    assert contents(tmp_path / name) == {"within": b"somebody's"}


@pytest.mark.parametrize("name", ["new\nline.bin", "ünïcödé-表.bin", " .bin", "-x.bin", "n" * 240 + ".bin"])
def test_odd_names_are_names(name, tmp_path, monkeypatch):
    if os.name == "nt" and ("\n" in name or len(name) > 240):
        pytest.skip("no name on Windows, which also bounds whole paths")
    longest = name.startswith("n" * 240)
    monkeypatch.setattr("winit_fast.files.writing._REPORT_SECONDS", 0)
    try:
        (tmp_path / f"{name}.partial.journal.new").lstat()
    except FileNotFoundError:
        assert not longest
    except OSError:  # its temporary names are too long for the system
        assert longest
        with pytest.raises(OSError, match="too long"):
            make(tmp_path / name)
        assert contents(tmp_path) == {}
        return
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / name, progress=interrupt)
    assert make(tmp_path / name, resume=True).kept
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_no_name_is_not_the_current_folder(tmp_path, monkeypatch):
    """A shell makes it of a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    make("t.safetensors")
    (tmp_path / "x.bin.partial").write_bytes(b"")
    before = contents(tmp_path)
    acts = (
        make,
        verify,
        clean,
        read_unfinished,
        lambda path: make(path, force=True),
        lambda path: plan(path, SPEC, seed=7),
    )
    for act in (*acts, lambda path: write(path, resume=True)):
        with pytest.raises(ValueError, match="path must be a name, got ''"):
            act("")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("path", [b"t.bin", 7, None, "t\0.bin", ["t.bin"]])
def test_what_is_no_path_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for act in (make, verify, clean, read_unfinished, lambda path: write(path, resume=True)):
        with pytest.raises((TypeError, ValueError), match=r"path must be a (str or a Path|name), got"):
            act(path)
    assert contents(tmp_path) == {}


def test_tensors_of_no_kind_are_named(tmp_path):
    for tensors in (7, "ab", [7]):
        with pytest.raises(TypeError, match="tensors must be of TensorSpec, got"):
            write(tmp_path / "t.bin", tensors, seed=7)


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_a_partial_that_somebody_removes_leaves_no_empty_file_under_the_final_name(tmp_path, monkeypatch):
    """The name was taken by an empty file for a moment, as on systems without links, and nothing came in its place."""
    monkeypatch.setattr("winit_fast.files.writing._REPORT_SECONDS", 0)
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "t.bin", progress=lambda *_: (tmp_path / "t.bin.partial").unlink(missing_ok=True))
    assert not (tmp_path / "t.bin").exists()
    monkeypatch.delattr(os, "link", raising=False)
    with pytest.raises(FileNotFoundError):
        make(tmp_path / "t.bin", progress=lambda *_: (tmp_path / "t.bin.partial").unlink(missing_ok=True))
    assert not (tmp_path / "t.bin").exists()
    assert make(tmp_path / "t.bin")
    assert [one.name for one in tmp_path.iterdir()] == ["t.bin"]


def test_a_file_too_large_for_any_disk_is_refused_by_its_size(tmp_path):
    spec = TensorSpec("t", ((1 << 60) - 1,), "float32", "normal")
    with pytest.raises(ValueError, match=r"size must be \d+, and less than 2\^62, got"):
        write(tmp_path / "t.npy", spec, seed=7)


def test_a_relative_name_is_where_it_was_when_the_call_began(tmp_path, monkeypatch):
    """`progress` may be anybody's code."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setattr("winit_fast.files.writing._REPORT_SECONDS", 0)
    make("t.bin", progress=lambda *_: os.chdir(tmp_path / "b"))
    assert [one.name for one in (tmp_path / "a").iterdir()] == ["t.bin"]
    monkeypatch.chdir(tmp_path)
    make("model", format="hf", progress=lambda *_: os.chdir(tmp_path / "b"))
    assert list((tmp_path / "b").iterdir()) == []
    assert verify(tmp_path / "model")


def test_a_tensor_may_not_have_the_name_of_the_metadata(tmp_path):
    spec = TensorSpec("__metadata__", (3,), "float32", "normal")
    for path, format in (("t.safetensors", None), ("model", "hf"), ("model", "dcp")):
        with pytest.raises(ValueError, match="a tensor cannot have the name '__metadata__' in this file: it is taken"):
            write(tmp_path / path, spec, seed=7, format=format)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("format", [None, "npy"])
def test_a_folder_whose_name_ends_as_a_file_is_refused(format, tmp_path):
    (tmp_path / "dir.npy").mkdir()
    spec = TensorSpec("a", (3, 4), "float32", "ones")
    with pytest.raises((ValueError, OSError), match=r"dir\.npy.* is a (folder|directory)|dir\.npy must be a file"):
        write(tmp_path / "dir.npy", spec, format=format)
    assert list((tmp_path / "dir.npy").iterdir()) == []
    assert len(list(tmp_path.iterdir())) == 1
    write(tmp_path / "dir.npy", spec, format="hf")
    assert verify(tmp_path / "dir.npy").is_right


def test_arguments_of_another_type_are_named(tmp_path):
    spec = TensorSpec("a", (3, 4), "float32", "ones")
    path = tmp_path / "a.bin"
    for call, message in {
        (lambda: Recipe(spec, 7)): "tensors must be a tuple of TensorSpec, got ",
        (lambda: verify(path, recipe=spec)): "recipe must be a Recipe, got ",
        (lambda: write(path, "user_id", seed=1)): "tensors must be of TensorSpec, got 'user_id'",
        (lambda: write(path, spec, progress=3)): "progress must be a function that takes (done, total), got 3",
        (lambda: write(path, resume=True, progress=3)): "progress must be a function that takes (done, total), got 3",
        (lambda: verify(path, progress=3)): "progress must be a function that takes (done, total), got 3",
    }.items():
        with pytest.raises(TypeError, match=re.escape(message)):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_by_an_empty_file_stays_so_where_the_unfinished_file_is_another(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "t.bin", progress=interrupt)
    (tmp_path / "t.bin").touch()
    with pytest.raises(ValueError, match="is of another recipe: seed: 7 there, 8 asked for"):
        write(tmp_path / "t.bin", SPEC, seed=8, memory=1 << 17, resume=True)
    assert (tmp_path / "t.bin").exists()
    make(tmp_path / "t.bin", resume=True)
    assert list(contents(tmp_path)) == ["t.bin"]
    assert (tmp_path / "t.bin").stat().st_size == SPEC.nbytes


def test_a_plan_takes_sizes_as_people_write_them(tmp_path):
    specs = [TensorSpec(name, (1000, 64), "float32", "ones") for name in "ab"]
    assert len(plan(tmp_path / "t", specs, max_file_size="300kB").files) == 3  # one each, and the index
