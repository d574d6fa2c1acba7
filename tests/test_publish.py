"""`winit_fast.publish`: a file has its name when it is whole, and not before, whatever comes between."""

import errno
import os
import stat
import sys
import threading
from contextlib import suppress

import pytest
from processes import printed

from winit_fast import publish
from winit_fast.publish import PartialFile, reserve

OLD, NEW = b"old", b"new and whole"

posix = pytest.mark.skipif(os.name == "nt", reason="permissions, pipes and forks of POSIX")


def write(path, content=NEW, **options):
    with PartialFile(path, **options) as partial:
        with partial.open() as file:
            file.write(content)
        partial.publish()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def link(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)


def test_a_file_that_is_there_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    with pytest.raises(FileExistsError, match=r"a exists already"):
        PartialFile(tmp_path / "a")
    assert contents(tmp_path) == {"a": OLD}


@pytest.mark.usefixtures("links")
def test_a_file_that_another_process_made_meanwhile_stays(tmp_path):
    with PartialFile(tmp_path / "a") as partial:
        partial.open().close()
        (tmp_path / "a").write_bytes(OLD)
        with pytest.raises(FileExistsError, match=r"a exists already"):
            partial.publish()
    assert contents(tmp_path) == {"a": OLD}


@pytest.mark.usefixtures("links")
def test_of_several_writers_of_a_new_file_one_wins_and_the_others_are_told(tmp_path):
    for number in range(50):
        path, outcomes, gate = tmp_path / str(number), [], threading.Barrier(4)

        def one(writer, path=path, outcomes=outcomes, gate=gate):
            with PartialFile(path) as partial:
                with partial.open() as file:
                    file.write(writer)
                gate.wait()
                try:
                    partial.publish()
                except FileExistsError:
                    outcomes.append(None)
                else:
                    outcomes.append(writer)

        threads = [threading.Thread(target=one, args=(bytes([writer]),)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes.count(None) == 3
        assert path.read_bytes() in outcomes
    assert len(list(tmp_path.iterdir())) == 50


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    with PartialFile(tmp_path / "a", overwrite=True) as partial:
        with partial.open() as file:
            file.write(NEW)
        assert (tmp_path / "a").read_bytes() == OLD
        assert partial.partial.parent == tmp_path
        partial.publish()
    assert contents(tmp_path) == {"a": NEW}


def test_what_is_not_published_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), PartialFile(tmp_path / "a") as partial, partial.open() as file:  # noqa: PT012
        file.write(NEW)
        raise ZeroDivisionError
    assert contents(tmp_path) == {}


def list_open_partials():
    """Windows removes none that is open."""
    found = []
    with suppress(FileNotFoundError):
        for descriptor in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in found if ".partial" in name]


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("is_there", [False, True])
def test_an_interrupt_at_any_bytecode_leaves_the_old_file_or_the_new_one(is_there, tmp_path, monkeypatch):
    held = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda path: (held.extend(list_open_partials()), unlink(path)))

    def run(place):
        """Interrupt at that place; whether there is one, and the function."""
        met, where = -1, None

        def trace(frame, event, _):
            nonlocal met, where
            if frame.f_code.co_filename != publish.__file__ and frame.f_code is not write.__code__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                met += 1
                if met == place:
                    where = frame.f_code.co_name
                    raise KeyboardInterrupt
            return trace

        (tmp_path / "a").unlink(missing_ok=True)
        if is_there:
            (tmp_path / "a").write_bytes(OLD)
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
        sys.settrace(trace)
        try:
            write(tmp_path / "a", overwrite=is_there)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        return where

    before = {"a": OLD} if is_there else {}
    place = 0
    while (where := run(place)) is not None:
        if where in ("__exit__", "_remove"):  # interrupted there, the end of the process does the rest
            publish._remove_unfinished()
        assert held == [], (place, where)
        found = contents(tmp_path)
        placeholder = [{"a": b""}] if where == "_replace_placeholder" and not is_there else []  # empty: no table
        assert found in (before, {"a": NEW}, *placeholder), (place, where)
        place += 1
    assert place > 100
    assert contents(tmp_path) == {"a": NEW}


def test_what_a_second_interrupt_leaves_goes_with_the_process(tmp_path):
    code = f"""
from winit_fast import publish
def remove(partial): raise KeyboardInterrupt
kept, publish._remove = publish._remove, remove
try:
    with publish.PartialFile({str(tmp_path / "a")!r}) as partial:
        partial.open().close()
except KeyboardInterrupt: pass
print(partial.partial.exists())
publish._remove = kept
"""
    assert printed(code) == "True\n"
    assert contents(tmp_path) == {}


@posix
def test_a_forked_child_leaves_its_parents_file_alone(tmp_path):
    code = f"""
import os, sys
from winit_fast.publish import PartialFile
with PartialFile({str(tmp_path / "a")!r}) as partial:
    partial.open().close()
    child = os.fork()
    if child == 0: sys.exit()
    os.waitpid(child, 0)
    partial.publish()
"""
    printed(code)
    assert contents(tmp_path) == {"a": b""}


@posix
def test_permissions_are_those_that_the_umask_leaves(tmp_path):
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            with PartialFile(tmp_path / oct(umask)) as partial:
                partial.open().close()
                assert stat.S_IMODE(partial.partial.stat().st_mode) == mode
                partial.publish()
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / oct(umask)).stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o400])
def test_permissions_of_a_replaced_file_stay_and_nobody_else_reads_the_new_one_before(mode, tmp_path):
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "a").chmod(mode)
    with PartialFile(tmp_path / "a", overwrite=True) as partial:
        partial.open().close()
        assert stat.S_IMODE(partial.partial.stat().st_mode) == 0o600
        partial.publish()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


@posix
def test_the_file_that_a_link_names_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "files").mkdir()
    link, file = tmp_path / "links" / "a", tmp_path / "files" / "b"
    link.symlink_to(file)
    write(link)  # a link to nothing
    assert link.is_symlink()
    assert file.read_bytes() == NEW
    with pytest.raises(FileExistsError):
        PartialFile(link)
    write(link, OLD, overwrite=True)
    assert link.is_symlink()
    assert contents(tmp_path / "files") == {"b": OLD}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_file_is_refused(overwrite, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    with pytest.raises(FileExistsError, match="must be a file, but it is a folder"):
        PartialFile(tmp_path / "folder", overwrite=overwrite)
    with pytest.raises(NotADirectoryError, match=r"must be in a folder, but .*file is not a folder"):
        PartialFile(tmp_path / "file" / "a", overwrite=overwrite)
    if os.name != "nt":
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileExistsError, match="must be a file, but it is a device or pipe"):
            PartialFile(tmp_path / "pipe", overwrite=overwrite)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(OSError, match="symbolic links"):
            PartialFile(tmp_path / "loop", overwrite=overwrite)


def test_a_folder_that_cannot_be_written_in_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="must be in a writable folder"):
        PartialFile(tmp_path / "a")


def test_a_name_may_be_as_long_as_names_may_be(tmp_path):
    write(tmp_path / ("x" * 255))
    write(tmp_path / ("\N{GREEK SMALL LETTER OMEGA}" * (127 if os.name != "nt" else 100)))
    assert list(contents(tmp_path).values()) == [NEW, NEW]


# Space


def refusing(number):
    def allocate(*_):
        raise OSError(number, os.strerror(number))

    return allocate


@pytest.mark.parametrize("way", ["as it is", "missing", "EOPNOTSUPP", "EINVAL"])
def test_reserve_gives_disk_space_and_keeps_what_is_there(way, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "_PIECE", 1 << 16)
    monkeypatch.setattr(publish, "_ZEROS", 10_000)
    if way == "missing":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    elif way != "as it is":
        monkeypatch.setattr(os, "posix_fallocate", refusing(getattr(errno, way)), raising=False)
    with PartialFile(tmp_path / "a") as partial, partial.open() as file:
        file.write(NEW)
        reserve(file, 1_000_003)
        found = os.fstat(file.fileno())
        assert found.st_size == 1_000_003
        if hasattr(found, "st_blocks"):
            assert found.st_blocks * 512 >= 1_000_003
        file.seek(0)
        assert file.read() == NEW + bytes(1_000_003 - len(NEW))


@pytest.mark.parametrize("way", ["posix_fallocate", "write"])
def test_a_full_disk_is_one_error_and_no_file(way, tmp_path, monkeypatch):
    if way == "write":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(os, way, refusing(errno.ENOSPC), raising=False)
    with pytest.raises(OSError, match="no room for 1,000,000 bytes") as raised:  # noqa: SIM117
        with PartialFile(tmp_path / "a") as partial, partial.open() as file:
            reserve(file, 1_000_000)
    assert raised.value.errno == errno.ENOSPC
    assert contents(tmp_path) == {}


def test_python_may_end_while_other_threads_write(tmp_path):
    """It goes through the partial files then, of which a daemon may begin another at any moment."""
    is_over = threading.Event()

    def write_on(writer):
        number = 0
        while not is_over.is_set():
            partial = tmp_path / f"{writer}.{number % 64}"
            publish._unfinished.add(partial)
            publish._unfinished.discard(partial)
            number += 1

    threads = [threading.Thread(target=write_on, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000 if os.name != "nt" else 100):  # whose threads take turns slowly
            publish._remove_unfinished()
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
