"""Whatever ends a write, and whenever: no half-written file has the final name, and `resume` completes the bits."""

import errno
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import time
from _thread import _count as count_threads
from contextlib import suppress
from itertools import product

import numpy as np
import pytest
from processes import PATIENCE, printed, python, started
from written_files import contents, expected, make

from winit_fast import files, publish
from winit_fast.files import journal, opening, partial, writing
from winit_fast.files.scratch import LEAST_MEMORY
from winit_fast.files.writing import clean, read_unfinished, write_layout

posix = pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX")
RECIPE, LAYOUT = make(("user_id", (3001, 67), "float16"), ("bias", (33,), "float32"))  # 7 blocks of the least memory
EXPECTED = expected(RECIPE, LAYOUT)
CALLS = ("pwrite", "write", "fdatasync", "fsync", "ftruncate", "posix_fallocate", "link", "unlink", "replace")


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Marks after every second block, as after every 64 MiB of a large file."""
    monkeypatch.setattr(writing, "SYNC_BYTES", 100_000)


def write(folder, **options):
    return write_layout(folder / "t", LAYOUT, RECIPE, **{"memory": LEAST_MEMORY} | options)


def complete(folder):
    """Continue, and compare every bit; what was kept."""
    assert not (folder / "t").exists() or (folder / "t").read_bytes() == EXPECTED
    written = write(folder, resume=True)
    assert contents(folder) == {"t": EXPECTED}
    assert written.kept + written.written == LAYOUT.size
    return written.kept


class StopError(Exception):
    """Raised in the place of a call, or after it."""


def wrap(monkeypatch, before=lambda name, args: None, after=lambda name, args: None, names=CALLS):
    """Call these functions before and after each call of the system."""
    for name in names:
        place = partial if name == "pwrite" and not hasattr(os, name) else os  # Windows
        attribute = "_write_at" if place is partial else name
        kept = getattr(place, attribute, None)

        def call(*args, name=name, kept=kept, **options):
            before(name, args)
            done = kept(*args, **options)
            after(name, args)
            return done

        if kept is not None:
            monkeypatch.setattr(place, attribute, call)


@pytest.fixture
def windows(monkeypatch):
    """What is open is not renamed, replaced or removed: so it is on Windows, and here as it is there."""
    if os.name == "nt":
        return
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("/proc")

    def refuse_open_ones(name, args):
        for path in args[:2]:
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                for descriptor in os.listdir("/proc/self/fd"):
                    with suppress(OSError):
                        if os.path.samestat(os.fstat(int(descriptor)), found):
                            break
                else:
                    continue
                raise PermissionError(errno.EACCES, "it is open", str(path))

    monkeypatch.setattr(partial, "_CLOSES_FIRST", True)
    wrap(monkeypatch, before=refuse_open_ones, names=("link", "rename", "replace", "unlink"))


# A process that dies


@posix
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("force", "has_links"), [(False, True), (True, True), (False, False)])
def test_a_process_that_dies_at_any_call_of_the_system_is_continued(moment, force, has_links, tmp_path):
    """The dying processes are forks of one that has no threads; the code says which calls they reach."""
    code = f"""
import os, signal, sys
from pathlib import Path
import test_files_faults as faults
from winit_fast.files import writing

writing.SYNC_BYTES = 100_000
writing._WRITERS = 1
patch, folder, met = faults.pytest.MonkeyPatch(), Path({str(tmp_path)!r}), 0

def count(name, args):
    global met
    if met == place: os.kill(os.getpid(), signal.SIGKILL)
    met += 1

place, kept = 0, set()
while True:
    if {force}: (folder / "t").write_bytes(b"old")
    child = os.fork()
    if child == 0:
        if not {has_links}: del os.link
        calls = (*faults.CALLS, "close") if not {has_links} else faults.CALLS
        faults.wrap(patch, **{{{moment!r}: count}}, names=calls)
        faults.write(folder, force={force})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert status == 0
        break
    found = (folder / "t").read_bytes() if (folder / "t").exists() else None
    held = (b"old" if {force} else None, b"" if not {has_links} else None)
    assert found in (faults.EXPECTED, *held), (place, found and len(found))
    written = faults.write(folder, resume=True, force={force})
    kept.add(written.kept)
    assert faults.contents(folder) == {{"t": faults.EXPECTED}}, place
    (folder / "t").unlink()
    place += 1
print(place, len(kept))
"""
    places, kept = map(int, printed(code).split())
    assert places > 20
    assert kept > 5


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import test_files_faults as faults
from winit_fast.files import writing
from written_files import expected, make

folder, wanted = Path(sys.argv[1]), int(sys.argv[2])
recipe, layout = make(("user_id", (150_001, 67), "bfloat16"), ("bias", (33,), "float32"))
right = expected(recipe, layout)
draw = random.Random(wanted)

def begin():
    child = os.fork()
    if child == 0:
        writing.SYNC_BYTES = 1 << 20
        writing.write_layout(folder / "t", layout, recipe, memory=1 << 18, threads=1, resume=True)
        os._exit(0)
    return child

start = time.perf_counter()
os.waitpid(begin(), 0)
whole = time.perf_counter() - start
kills, kept = 0, []
while kills < wanted:
    (folder / "t").unlink(missing_ok=True)
    child = begin()
    time.sleep(draw.uniform(0, whole))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert not (folder / "t").exists() or (folder / "t").read_bytes() == right
    if os.WIFSIGNALED(status):
        kills += 1
        past = writing._read_past(folder / "t")
        kept.append(len(past.blocks) if past else 0)
written = writing.write_layout(folder / "t", layout, recipe, resume=True)
assert (folder / "t").read_bytes() == right
assert faults.contents(folder).keys() == {"t"}
print(sum(1 for blocks in kept if blocks))
"""


@posix
@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.sweep)])
def test_a_process_that_is_killed_at_a_random_moment_is_continued(kills, tmp_path):
    done = python("-c", KILLS, str(tmp_path), str(kills))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > kills // 3  # most of them in the middle


def test_what_a_killed_process_has_recorded_is_not_written_again(tmp_path, monkeypatch):
    met = []

    def stop(name, args):
        met.append(name)
        if met.count("pwrite") == 5:
            raise StopError

    with monkeypatch.context() as patch:
        wrap(patch, before=stop, names=("pwrite",))
        patch.setattr(writing, "_WRITERS", 1)
        with pytest.raises(StopError):
            write(tmp_path)
    filled = []
    kept = writing._fill_block
    monkeypatch.setattr(writing, "_fill_block", lambda block, *rest: (filled.append(len(block)), kept(block, *rest)))
    before = read_kept(tmp_path)
    assert before == 4 * 65536 - 4096
    assert complete(tmp_path) == before
    assert sum(filled) == LAYOUT.size - 4096 - before


def read_kept(folder):
    past = writing._read_past(folder / "t")
    return writing._Blocks.of(past.intent).count_bytes(past.blocks)


# A machine that dies


@posix
@pytest.mark.parametrize("journal_is", ["as it is", "as it was synced", "torn", "with garbage behind it"])
def test_a_power_cut_at_any_call_of_the_system_is_continued(journal_is, tmp_path, monkeypatch):
    """What was not synced is gone: of the partial file, and of the journal or not."""
    disk = tmp_path / "disk"
    draw = random.Random(1)
    boots = iter(range(10**6))

    def cut(place):
        folder = tmp_path / str(place)
        folder.mkdir()
        disk.mkdir(exist_ok=True)
        for path in disk.iterdir():
            path.unlink()
        met = 0

        def before(name, args):
            nonlocal met
            met += 1
            if met > place:
                raise StopError

        def after(name, args):
            if name in ("fdatasync", "fsync"):
                synced = os.fstat(args[0])
                for path in folder.iterdir():
                    if os.path.samestat(path.stat(), synced):
                        shutil.copy(path, disk / path.name.replace(".new", ""))

        name = f"boot {next(boots)}"
        with monkeypatch.context() as patch:
            patch.setattr(journal, "read_boot", lambda: name)
            patch.setattr(writing, "_WRITERS", 1)
            patch.setattr(writing._Job, "abandon", lambda self: (self.file.close(), self.journal.close()))
            wrap(patch, before, after)
            try:
                write(folder)
            except StopError:
                pass
            else:
                return False
        final, unfinished, record = folder / "t", folder / "t.partial", folder / "t.partial.journal"
        synced = disk / "t.partial"
        if final.exists():
            assert synced.read_bytes() == EXPECTED == final.read_bytes()
            return True
        if unfinished.exists():
            found = synced.read_bytes() if synced.exists() else b""
            unfinished.write_bytes(found.ljust(unfinished.stat().st_size, b"?"))
            assert found[:4096].count(0) == 4096 or len(found) < 4096 or found == EXPECTED  # the header is last
        if record.exists():
            if journal_is == "as it was synced" and (disk / record.name).exists():
                shutil.copy(disk / record.name, record)
            elif journal_is == "torn":
                content = record.read_bytes()
                synced = (disk / record.name).stat().st_size
                record.write_bytes(content[: draw.randint(synced, len(content))])
            elif journal_is == "with garbage behind it":
                record.write_bytes(record.read_bytes() + draw.randbytes(100))
        monkeypatch.setattr(journal, "read_boot", lambda: "another")
        complete(folder)
        return True

    place = 0
    while cut(place):
        place += 1
    assert place > 20


@pytest.mark.parametrize(("boot", "count"), [("the same", 5), ("another", 4), ("", 4)])
def test_after_a_reboot_what_stands_before_the_last_mark_is_kept(boot, count, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "read_boot", lambda: "the same" if boot else "")
    met = []

    def stop(name, args):
        met.append(name)
        if met.count("pwrite") == 6:
            raise StopError

    with monkeypatch.context() as patch:
        wrap(patch, before=stop, names=("pwrite",))
        patch.setattr(writing, "_WRITERS", 1)
        patch.setattr(writing, "SYNC_BYTES", 2 * 65536 - 4096)
        with pytest.raises(StopError):
            write(tmp_path)
    monkeypatch.setattr(journal, "read_boot", lambda: boot)
    assert complete(tmp_path) == count * 65536 - 4096


def test_a_disk_that_fails_to_sync_is_not_trusted_by_the_next_process(tmp_path, monkeypatch):
    def fail(name, args):
        met.append(name)
        if len(met) in failing:
            raise OSError(errno.EIO, "Input/output error")

    for failing in ({3}, {3, 4}):  # of these calls: at the first of the resumed process too
        met = []
        with monkeypatch.context() as patch:
            patch.setattr(writing, "_WRITERS", 1)
            patch.setattr(os, "fdatasync", os.fdatasync if hasattr(os, "fdatasync") else os.fsync, raising=False)
            wrap(patch, before=fail, names=("fdatasync",))
            with pytest.raises(OSError, match=r"Input/output error: .*t\.partial"):
                write(tmp_path)
            marked = read_kept(tmp_path)
            if 4 in failing:
                with pytest.raises(OSError, match=r"Input/output error: .*t\.partial"):
                    write(tmp_path, resume=True)
                assert read_kept(tmp_path) == marked
        assert 0 < marked < LAYOUT.size - 2 * 65536
        assert complete(tmp_path) == marked
        (tmp_path / "t").unlink()


def test_a_disk_that_fails_at_the_last_sync_is_not_trusted_by_the_next_process(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_WRITERS", 1)  # blocks in order, and one behind the last mark
        patch.setattr(os, "fdatasync", os.fdatasync if hasattr(os, "fdatasync") else os.fsync, raising=False)
        patch.setattr(partial, "sync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            write(tmp_path)
    past = writing._read_past(tmp_path / "t")
    assert past.blocks == past.marked
    blocks = writing._Blocks.of(past.intent)
    lost = [blocks.span(number) for number in set(blocks.numbers).difference(past.marked)]
    assert lost
    with open(tmp_path / "t.partial", "r+b") as file:  # as the disk may have
        for begin, end in lost:
            file.seek(begin)
            file.write(bytes(end - begin))
    complete(tmp_path)


def test_nothing_is_recorded_after_a_sync_that_failed():
    class Disk:
        def write_block(self, *_):
            pass

        def sync(self):
            raise OSError(errno.EIO, "Input/output error")

    class Records(list):
        record = list.append
        forget = list.clear

        def mark(self):
            raise AssertionError("a mark after a sync that failed")

    recorder = writing._Recorder(Disk(), Records())
    block = writing._Filled(np.empty(4096, np.uint8), 0, 0, writing.SYNC_BYTES)
    with pytest.raises(OSError, match="Input/output error"):
        recorder.write(block)
    recorder.write(block._replace(number=1))
    assert recorder.journal == []


# A full disk


def refuse(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


def test_a_disk_that_is_full_before_the_first_block_is_one_error_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
    with pytest.raises(
        OSError, match=r"no room for 40[0-9],[0-9]{3} bytes \(No space left on device\): .*t\.partial"
    ) as raised:
        write(tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("names", [("pwrite",), ("write",), ("posix_fallocate",)])
def test_a_disk_that_is_full_later_loses_nothing(names, tmp_path, monkeypatch):
    """While blocks are written, while they are recorded, and as it is continued."""
    met = []

    def fail(name, args):
        met.append(name)
        if len(met) >= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        wrap(patch, before=fail, names=("pwrite",) if names == ("posix_fallocate",) else names)
        with pytest.raises(OSError, match="No space left on device") as raised:
            write(tmp_path)
    assert raised.value.errno == errno.ENOSPC
    before = read_kept(tmp_path)
    assert before > 0
    if names == ("posix_fallocate",):
        with monkeypatch.context() as patch:
            patch.setattr(partial.LockedFile, "room", 0)
            patch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
            with pytest.raises(OSError, match="no room for"):
                write(tmp_path, resume=True)
    assert read_kept(tmp_path) == before
    assert complete(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs mount")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("reserves", [True, False])
def test_a_small_disk_that_is_full_keeps_what_was_written_until_there_is_room(reserves, small_disk, monkeypatch):
    recipe, layout = make(("user_id", (300_000, 128), "bfloat16"))
    path = small_disk / "t"
    with pytest.raises(OSError, match=r"76,804,096 bytes are needed and [0-9,]+ free") as raised:
        write_layout(path, layout, recipe)
    assert raised.value.errno == errno.ENOSPC
    assert contents(small_disk) == {}
    with monkeypatch.context() as patch:  # another process takes the room
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40))
        if not reserves:
            patch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP))
        with pytest.raises(OSError, match="no room for 76,804,096 bytes" if reserves else "No space left on device"):
            write_layout(path, layout, recipe, memory=1 << 20)
    assert not path.exists()
    if reserves:
        assert contents(small_disk) == {}
    else:
        assert read_kept(small_disk) > 50 << 20
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    written = write_layout(path, layout, recipe, memory=1 << 20, resume=True)
    assert (written.kept > 50 << 20) is not reserves
    assert contents(small_disk) == {"t": expected(recipe, layout)}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("force", [False, True])
def test_any_call_of_the_system_that_fails_loses_nothing(force, number, tmp_path, monkeypatch):
    """Each of them in turn, and all that come after it: a full disk stays full while the error is cleaned up after."""
    place, failed = 0, 0
    for place in range(1000):
        met = 0

        def fail(name, args, place=place):
            nonlocal met
            met += 1
            if met > place and name != "unlink":  # which frees room
                raise OSError(number, os.strerror(number))

        if force:
            (tmp_path / "t").write_bytes(b"old")
        with monkeypatch.context() as patch:
            patch.setattr(writing, "_WRITERS", 1)
            wrap(patch, before=fail)
            try:
                write(tmp_path, force=force)
            except OSError as error:
                assert error.errno == number  # noqa: PT017
                failed += 1
        found = (tmp_path / "t").read_bytes() if (tmp_path / "t").exists() else None
        assert found in (EXPECTED, b"old" if force else None), place
        written = write(tmp_path, resume=True, force=force)
        assert written.kept + written.written == LAYOUT.size
        assert contents(tmp_path) == {"t": EXPECTED}, place
        (tmp_path / "t").unlink()
        if met <= place:
            break
    assert failed > 20


def test_no_room_for_the_journal_is_one_error_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left on device"):
        write(tmp_path)
    monkeypatch.undo()
    assert contents(tmp_path) == {}


# Two writers


def test_two_writers_of_one_file_and_a_cleaner_are_refused_at_once(tmp_path, windows):
    errors = []  # kept, and with them what they refer to

    def others(done, total):
        for other in (write, lambda folder, **_: clean(folder / "t")):
            for options in ({}, {"force": True}, {"resume": True}):
                with pytest.raises(BlockingIOError, match=r"t\.partial is being written by another process") as raised:
                    other(tmp_path, **options)
                errors.append(raised)

    write(tmp_path, progress=others)
    assert len(errors) >= 12
    assert contents(tmp_path) == {"t": EXPECTED}


@posix
def test_a_writer_in_another_process_is_seen_and_gone_when_it_is_killed(tmp_path):
    code = f"""
import time
from pathlib import Path
import test_files_faults as faults
def wait(done, total):
    print(done, flush=True)
    if done > 0: time.sleep({PATIENCE})
faults.writing._REPORT_SECONDS = 0
faults.write(Path({str(tmp_path)!r}), progress=wait)
"""
    with started(code) as child:
        while int(child.stdout.readline()) == 0:
            pass
        for options in ({}, {"force": True}, {"resume": True}):
            with pytest.raises(BlockingIOError, match="is being written by another process"):
                write(tmp_path, **options)
        child.kill()
    assert complete(tmp_path) > 0


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that another process has open")
def test_who_gets_the_lock_of_a_file_that_was_published_meanwhile_leaves_it_alone(tmp_path, monkeypatch):
    met = []

    def lock(descriptor, path):
        if not met:
            met.append(path)
            (tmp_path / "t.partial").write_bytes(b"published by another")
            os.link(tmp_path / "t.partial", tmp_path / "t")
            os.unlink(tmp_path / "t.partial")
        kept(descriptor, path)

    kept = partial._lock
    (tmp_path / "t.partial").write_bytes(b"")
    monkeypatch.setattr(partial, "_lock", lock)
    with pytest.raises(FileExistsError, match="t exists already"):
        write(tmp_path)
    assert (tmp_path / "t").read_bytes() == b"published by another"


def test_without_locks_of_its_own_the_file_system_of_windows_has_them(tmp_path, monkeypatch):
    locked = set()

    class Windows:
        LK_NBLCK = 2

        @staticmethod
        def locking(descriptor, mode, count):
            assert os.lseek(descriptor, 0, os.SEEK_CUR) == (1 << 31) - 2
            found = os.fstat(descriptor)
            if found.st_ino in locked:
                raise OSError(errno.EACCES, "Permission denied")
            locked.add(found.st_ino)

    monkeypatch.setattr(partial, "fcntl", None)
    monkeypatch.setattr(partial, "msvcrt", Windows)

    def another(done, total):
        with pytest.raises(BlockingIOError, match="is being written by another process"):
            write(tmp_path)

    write(tmp_path, progress=another)
    assert contents(tmp_path) == {"t": EXPECTED}


def test_a_file_system_without_any_locks_is_written_all_the_same(tmp_path, monkeypatch):
    if partial.fcntl is None:
        pytest.skip("flock")
    monkeypatch.setattr(partial.fcntl, "flock", refuse(errno.ENOLCK))
    write(tmp_path)
    assert contents(tmp_path) == {"t": EXPECTED}


# Names that the system does not change


def test_what_is_open_is_closed_before_its_names_change(tmp_path, windows):
    write(tmp_path)
    assert contents(tmp_path) == {"t": EXPECTED}
    interrupted(tmp_path, force=True)
    assert write(tmp_path, resume=True).kept > 0
    interrupted(tmp_path, force=True)
    assert len(clean(tmp_path / "t")) == 2
    interrupted(tmp_path, force=True)
    assert write(tmp_path, force=True).kept == 0
    assert contents(tmp_path) == {"t": EXPECTED}


@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_another_program_has_open_for_a_moment_is_waited_for(force, tmp_path, monkeypatch):
    refused = []

    def refuse_twice(name, args):
        if refused.count((name, *args)) < 2 and os.path.exists(args[0]):
            refused.append((name, *args))
            raise PermissionError(errno.EACCES, "it is open", str(args[0]))

    monkeypatch.setattr(publish, "_TRIES", 3)
    monkeypatch.setattr(publish, "_PAUSE", 0)
    wrap(monkeypatch, before=refuse_twice, names=("rename", "replace", "unlink"))
    if force:
        (tmp_path / "t").write_bytes(b"old")
    write(tmp_path, force=force)
    assert contents(tmp_path) == {"t": EXPECTED}
    assert len(refused) >= 6


@pytest.mark.parametrize("force", [False, True])
def test_a_name_that_stays_open_elsewhere_is_an_error_and_the_complete_file_is_published_later(
    force, tmp_path, monkeypatch
):
    if force:
        (tmp_path / "t").write_bytes(b"old")

    def fail(name, args):
        if os.path.basename(args[1]) == "t":
            raise PermissionError(errno.EACCES, "it is open", str(args[1]))

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_TRIES", 2)
        patch.setattr(publish, "_PAUSE", 0)
        wrap(patch, before=fail, names=("link", "replace", "rename"))
        with pytest.raises(PermissionError, match="it is open"):
            write(tmp_path, force=force)
    assert write(tmp_path, resume=True).written == 4096  # the header alone
    assert contents(tmp_path) == {"t": EXPECTED}


def test_an_error_is_not_hidden_by_a_name_that_cannot_be_removed_after_it(tmp_path, monkeypatch):
    def stop(done, total):
        raise StopError

    def fail(name, args):
        raise PermissionError(errno.EACCES, "it is open", str(args[0]))

    with monkeypatch.context() as patch:
        patch.setattr(publish, "_TRIES", 1)
        wrap(patch, before=fail, names=("unlink",))
        with pytest.raises(StopError):
            write(tmp_path, progress=stop)
    assert complete(tmp_path) == 0


def test_a_file_that_is_read_only_is_refused_first_where_it_cannot_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "_REPLACES_READ_ONLY", False)
    (tmp_path / "t").write_bytes(b"old")
    (tmp_path / "t").chmod(0o444)
    with pytest.raises(PermissionError, match="t must be writable to be replaced, but it is read-only"):
        write(tmp_path, force=True)
    (tmp_path / "t").chmod(0o644)
    assert contents(tmp_path) == {"t": b"old"}


# What is left of an earlier write


def interrupted(folder, **options):
    """Leave a file of which some blocks are written."""
    met = []

    def stop(done, total):
        met.append(done)
        if done > 100_000:
            raise StopError

    kept, writing._REPORT_SECONDS = writing._REPORT_SECONDS, 0.0
    try:
        with pytest.raises(StopError):
            write(folder, progress=stop, **options)
    finally:
        writing._REPORT_SECONDS = kept
    assert sorted(contents(folder).keys() - {"t"}) == ["t.partial", "t.partial.journal"]


def test_an_unfinished_file_is_continued_begun_again_or_removed_as_one_asks(tmp_path):
    interrupted(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"t\.partial is there, of a write that was interrupted: resume=True"):
        write(tmp_path)
    assert contents(tmp_path) == before
    assert write(tmp_path, force=True).kept == 0
    assert contents(tmp_path) == {"t": EXPECTED}
    (tmp_path / "t").unlink()
    interrupted(tmp_path)
    assert [path.name for path in clean(tmp_path / "t")] == ["t.partial", "t.partial.journal"]
    assert contents(tmp_path) == {}
    assert clean(tmp_path / "t") == []
    interrupted(tmp_path)
    assert complete(tmp_path) > 0


def test_a_forced_write_that_was_interrupted_is_continued_without_asking_again(tmp_path):
    (tmp_path / "t").write_bytes(b"old")
    interrupted(tmp_path, force=True)
    assert (tmp_path / "t").read_bytes() == b"old"
    assert write(tmp_path, resume=True).kept > 0
    assert contents(tmp_path) == {"t": EXPECTED}


@pytest.mark.parametrize(
    ("old", "change"),
    [(None, "appears"), *product((b"old", b""), ("is written to", "vanishes and appears", "is another"))],
)
def test_a_forced_write_that_is_continued_replaces_no_file_but_that_which_was_there(old, change, tmp_path):
    """Who has the name by now has not been asked. Asked again, any file is replaced."""
    path = tmp_path / "t"
    if old is not None:
        path.write_bytes(old)
    interrupted(tmp_path, force=True)
    if change == "is written to":
        with path.open("ab") as file:
            file.write(b"new")
    else:
        if change == "vanishes and appears":
            path.unlink()
            interrupted(tmp_path, resume=True)
        (tmp_path / "new").write_bytes(b"new file")
        os.replace(tmp_path / "new", path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=r"t exists already"):
        write(tmp_path, resume=True)
    assert contents(tmp_path) == before
    assert write(tmp_path, resume=True, force=True).kept > 0
    assert contents(tmp_path) == {"t": EXPECTED}


@posix
def test_a_file_that_was_forced_where_none_was_appears_by_a_link_when_it_is_continued(tmp_path, monkeypatch):
    """So one that takes the name at the last moment stays."""
    interrupted(tmp_path, force=True)
    wrap(monkeypatch, lambda name, _: (tmp_path / "t").write_bytes(b"new") if name == "link" else None)
    with pytest.raises(FileExistsError, match="t exists already"):
        write(tmp_path, resume=True)
    assert (tmp_path / "t").read_bytes() == b"new"


@posix
@pytest.mark.parametrize("gone", [True, False])
def test_a_forced_write_that_is_continued_has_the_mode_of_the_old_file_or_of_a_new_one(gone, tmp_path):
    before = os.umask(0o027)
    try:
        (tmp_path / "t").write_bytes(b"old")
        (tmp_path / "t").chmod(0o604)
        interrupted(tmp_path, force=True)
        if gone:
            (tmp_path / "t").unlink()
        write(tmp_path, resume=True)
        assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == (0o640 if gone else 0o604)
    finally:
        os.umask(before)


def test_a_file_that_is_continued_has_its_recipe_in_the_journal(tmp_path):
    assert read_unfinished(tmp_path / "t") is None
    interrupted(tmp_path)
    found = read_unfinished(tmp_path / "t")
    assert (found.layout, found.recipe, found.force) == (LAYOUT, RECIPE, False)
    assert found.kept == read_kept(tmp_path)


def test_a_file_is_continued_by_its_name_alone(tmp_path):
    interrupted(tmp_path)
    kept = read_kept(tmp_path)
    assert files.write(tmp_path / "t", resume=True, memory=LEAST_MEMORY) == (
        tmp_path / "t", LAYOUT.size, kept, LAYOUT.size - kept
    )  # fmt: skip
    assert contents(tmp_path) == {"t": EXPECTED}


@pytest.mark.parametrize("size", [1, 100_000, 200_000])
def test_blocks_that_were_cut_from_a_partial_file_are_written_again(size, tmp_path):
    """How many were written before the interrupt is the threads' matter: those that end before the cut are kept."""
    interrupted(tmp_path)
    past = writing._read_past(tmp_path / "t")
    spans = map(writing._Blocks.of(past.intent).span, past.blocks)
    os.truncate(tmp_path / "t.partial", size)
    assert complete(tmp_path) == sum(end - begin for begin, end in spans if end <= size)


def test_another_recipe_is_refused_by_what_differs(tmp_path):
    interrupted(tmp_path)
    before = contents(tmp_path)
    tensors = {"user_id": ((3001, 67), "float16"), "bias": ((33,), "float32")}
    others = {
        "seed: 7 there, 8 asked for": make(*[(name, *one) for name, one in tensors.items()], seed=8),
        "dtype of 'bias': 'float32' there, 'float64' asked for": make(
            ("user_id", (3001, 67), "float16"), ("bias", (33,), "float64")),
        "scheme of 'bias': 'normal\\(std=0.01\\)' there, 'uniform.* asked for": make(
            ("user_id", (3001, 67), "float16"), ("bias", (33,), "float32", "uniform")),
        "tensor 'bias' is there, and not asked for": make(("user_id", (3001, 67), "float16")),
        "tensor 'more' is asked for, and not there": make(
            ("user_id", (3001, 67), "float16"), ("bias", (33,), "float32"), ("more", (1,), "float32")),
        "the order of the tensors": make(("bias", (33,), "float32"), ("user_id", (3001, 67), "float16")),
        "the header of the file": (RECIPE, LAYOUT._replace(header=bytes(4096))),
        "holds 'user_id', which is not asked for": (
            RECIPE, LAYOUT._replace(segments=LAYOUT.segments[:1], size=4096 + 132)),
        "format: 'test' there, 'raw' asked for": (RECIPE, LAYOUT._replace(format="raw")),
    }  # fmt: skip
    for message, (recipe, layout) in others.items():
        with pytest.raises(ValueError, match=f"the unfinished .*t is of another recipe: {message}"):
            write_layout(tmp_path / "t", layout, recipe, memory=LEAST_MEMORY, resume=True)
        assert contents(tmp_path) == before


def test_more_memory_is_no_matter_and_less_is_refused(tmp_path):
    interrupted(tmp_path)
    kept = read_kept(tmp_path)
    assert write(tmp_path, resume=True, memory=256 << 20).kept == kept
    (tmp_path / "t").unlink()
    interrupted(tmp_path, memory=256 << 10)
    with pytest.raises(ValueError, match=r"memory must be at least 262144 bytes to continue .*t, got 131072"):
        write(tmp_path, resume=True)
    assert write(tmp_path, resume=True, memory=256 << 10).kept > 0


def test_files_that_are_not_ours_are_left_alone(tmp_path):
    (tmp_path / "t.partial").write_bytes(b"of a browser")
    for options in ({}, {"resume": True}):
        with pytest.raises((FileExistsError, ValueError), match=r"t\.partial (is there|has no journal)"):
            write(tmp_path, **options)
    with pytest.raises(ValueError, match=r"t\.partial has no journal: winit_fast did not write it"):
        clean(tmp_path / "t")
    assert contents(tmp_path) == {"t.partial": b"of a browser"}


def test_a_process_that_dies_between_the_names_leaves_a_file_that_is_never_touched_again(tmp_path):
    for options in ({}, {"resume": True}, {"force": True}):
        write(tmp_path)
        os.link(tmp_path / "t", tmp_path / "t.partial")
        (tmp_path / "t.partial.journal").write_bytes(b"any")
        if options:
            write(tmp_path, **options)
        else:
            with pytest.raises(FileExistsError, match="t exists already"):
                write(tmp_path)
        assert contents(tmp_path) == {"t": EXPECTED}
        (tmp_path / "t").unlink()


# Writes that the system does in part


@pytest.mark.parametrize("piece", [512, 4096, 5000, 40_000])
def test_short_writes_are_continued(piece, tmp_path, monkeypatch):
    kept = os.pwrite if hasattr(os, "pwrite") else None
    if kept is None:
        pytest.skip("pwrite")
    counts = []

    def short(descriptor, data, start):
        whole = len(data) if len(data) % 4096 else max(512, min(piece, len(data)) // 512 * 512)  # as O_DIRECT takes
        counts.append(kept(descriptor, data[:whole], start))
        return counts[-1]

    monkeypatch.setattr(os, "pwrite", short)
    write(tmp_path)
    assert contents(tmp_path) == {"t": EXPECTED}
    assert len(counts) > 8


def test_a_system_that_writes_nothing_is_an_error_and_no_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", lambda *_: 0, raising=False)
    with pytest.raises(OSError, match=r"writes nothing.*t\.partial"):
        write(tmp_path)
    assert contents(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="O_DIRECT")
def test_a_disk_that_refuses_blocks_past_the_cache_gets_them_through_it(tmp_path, monkeypatch):
    met = []
    kept = os.pwrite

    def refuse_direct(descriptor, data, start):
        import fcntl

        is_direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
        met.append(is_direct)
        if is_direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return kept(descriptor, data, start)

    monkeypatch.setattr(os, "pwrite", refuse_direct)
    write(tmp_path)
    assert contents(tmp_path) == {"t": EXPECTED}
    assert met.count(False) == 8


# Interrupts


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_keeps_what_is_written_and_leaves_no_thread(name, tmp_path):
    code = f"""
import os, signal, sys, threading
from _thread import _count
from pathlib import Path
import test_files_faults as faults

def leave(number, frame): raise SystemExit(128 + number)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background has ignored
faults.writing._REPORT_SECONDS = 0
def send(done, total):
    if done > 200_000: os.kill(os.getpid(), signal.{name})
folder = Path({str(tmp_path)!r})
try:
    faults.write(folder, progress=send)
except (KeyboardInterrupt, SystemExit) as error:
    print(type(error).__name__, _count())
print(sorted(path.name for path in folder.iterdir()), faults.complete(folder) > 0)
"""
    error = {"SIGINT": "KeyboardInterrupt", "SIGTERM": "SystemExit"}[name]
    assert printed(code) == f"{error} 0\n['t.partial', 't.partial.journal'] True\n"


def is_forgotten(frame):
    """Whether it cleans up after an object that nothing refers to: what is raised there is lost anyway."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def interrupt_at(place, folder):
    """Interrupt the caller at that bytecode; whether there is one."""
    files = (writing.__file__, journal.__file__, partial.__file__, opening.__file__)
    met = -1
    is_hit = False

    def trace(frame, event, _):
        nonlocal met, is_hit
        if frame.f_code.co_filename not in files or is_forgotten(frame):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            met += 1
            if met == place:
                is_hit = True
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at this in settrace
    sys.settrace(trace)
    try:
        write(folder)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return is_hit


def check_interrupts(folder, step):
    place, before = step // 3, count_threads()
    while interrupt_at(place, folder):
        for _ in range(1000):  # writers that an interrupt of their end has left go by themselves
            if count_threads() <= before:
                break
            time.sleep(0.001)
        assert count_threads() <= before, place
        found = contents(folder)
        assert found.get("t", EXPECTED) == EXPECTED, place
        complete(folder)
        (folder / "t").unlink()
        place += step
    return place


def test_an_interrupt_at_some_bytecodes_is_continued(tmp_path):
    assert check_interrupts(tmp_path, 97) > 1000


def test_an_interrupt_at_some_bytecodes_leaves_no_file_open(tmp_path, windows):
    assert check_interrupts(tmp_path, 89) > 1000


@pytest.mark.sweep
def test_an_interrupt_at_any_bytecode_is_continued(tmp_path, windows):
    assert check_interrupts(tmp_path, 1) > 1000


def test_an_interrupt_before_the_first_block_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, progress=stop)
    assert contents(tmp_path) == {}


def test_a_fill_that_fails_keeps_what_is_written(tmp_path, monkeypatch):
    kept = writing._fill_block

    def fail(block, begin, *rest):
        if begin >= 4 * 65536:
            raise MemoryError
        kept(block, begin, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "_fill_block", fail)
        with pytest.raises(MemoryError):
            write(tmp_path)
    assert complete(tmp_path) == 4 * 65536 - 4096


# The order of things


def check_order(calls):
    """Of ``(name, file)``: data before its mark, all data before the header, header before the name, folder last."""
    last = {call: place for place, call in enumerate(calls)}
    first = {call: place for place, call in reversed(list(enumerate(calls)))}
    blocks = [place for place, call in enumerate(calls) if call == ("block", "partial")]
    assert len(blocks) == 7
    header = first["header", "partial"]
    assert header == last["header", "partial"]
    syncs = [place for place, call in enumerate(calls) if call == ("sync", "partial")]
    assert any(blocks[-1] < place < header for place in syncs)
    assert any(header < place < first["link", "partial"] for place in syncs)
    assert first["reserve", "partial"] < blocks[0]
    assert last["link", "partial"] < first["unlink", "partial"] < first["unlink", "journal"] < last["sync", "folder"]
    assert last["sync", "folder"] == len(calls) - 1
    marks = [place for place, call in enumerate(calls) if call == ("mark", "journal")]
    assert len(marks) >= 3
    for mark in marks:
        before = [place for place in blocks if place < mark]
        assert any(place > before[-1] for place in syncs if place < mark)
        assert calls[mark + 1] == ("sync", "journal")


def test_the_order_of_calls(tmp_path, monkeypatch):
    if not hasattr(os, "pwrite") or not hasattr(os, "posix_fallocate"):
        pytest.skip("calls of POSIX")
    calls = []
    monkeypatch.setattr(writing, "_WRITERS", 1)
    records = []

    def place_of(descriptor):
        found = os.fstat(descriptor)
        names = {"t.partial": "partial", "t": "partial", "t.partial.journal": "journal", "t.partial.journal.new": "new"}
        for name, kind in names.items():
            path = tmp_path / name
            if path.exists() and os.path.samestat(path.stat(), found):
                return kind
        return "folder"

    def before(name, args):
        if name == "pwrite":
            calls.append(("header" if args[2] == 0 else "block", place_of(args[0])))
        elif name == "write":
            records.append(bytes(args[1]))
            number = int.from_bytes(records[-1][:4], "little")
            is_mark = records[-1][4:] == journal._check(digest(), journal._MARK, number).to_bytes(4, "little")
            calls.append(("mark" if is_mark else "record", place_of(args[0])))
        elif name in ("fsync", "fdatasync"):
            calls.append(("sync", place_of(args[0])))
        elif name == "posix_fallocate":
            calls.append(("reserve", place_of(args[0])))
        elif name == "link":
            calls.append(("link", "partial"))
        elif name == "unlink":
            calls.append(("unlink", "journal" if str(args[0]).endswith("journal") else "partial"))

    def digest():
        return journal._HEAD.unpack_from((tmp_path / "t.partial.journal").read_bytes())[-1]

    wrap(monkeypatch, before)
    write(tmp_path)
    calls = [call for call in calls if call != ("sync", "new")]
    check_order([call for call in calls if call[0] != "unlink" or call not in calls[: calls.index(call)]])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace")
def test_the_order_of_calls_as_the_system_sees_them(tmp_path):
    code = f"""
from pathlib import Path
import test_files_faults as faults
faults.writing.SYNC_BYTES = 100_000
faults.writing._WRITERS = 1
faults.write(Path({str(tmp_path)!r}))
"""
    log = tmp_path.parent / f"{tmp_path.name}.log"
    names = "pwrite64,write,fdatasync,fsync,fallocate,link,linkat,unlink,unlinkat,rename"
    traced = ["strace", "-f", "-y", "-s", "8", "-xx", "-e", f"trace={names}", "-o", str(log)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*traced, sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if not log.exists() or not log.stat().st_size:
        pytest.skip("may not trace")
    assert done.returncode == 0, done.stderr
    calls = []
    for line in log.read_text().splitlines():
        found = re.match(r"\d+ +(\w+)\((.*)", line)
        if found is None or str(tmp_path) not in decoded(found[2]):
            continue
        name, rest = found[1], decoded(found[2])
        kind = "journal" if ".journal" in rest else "partial" if "t.partial" in rest else "folder"
        if name == "pwrite64":
            calls.append(("header" if re.search(r", 0\) ", rest) or rest.rstrip().endswith(", 0") else "block", kind))
        elif name == "write" and ".new" not in rest:
            calls.append(("write", kind))
        elif name in ("fsync", "fdatasync") and ".new" not in rest:
            calls.append(("sync", kind))
        elif name == "fallocate":
            calls.append(("reserve", kind))
        elif name in ("link", "linkat"):
            calls.append(("link", kind))
        elif name in ("unlink", "unlinkat") and ".new" not in rest and " = -1" not in rest:
            calls.append(("unlink", kind))
    # A write to the journal that is synced at once is a mark.
    calls = [
        ("mark" if call == ("write", "journal") and following == ("sync", "journal") else call[0], call[1])
        for call, following in zip(calls, [*calls[1:], ("", "")], strict=True)
    ]
    check_order(calls)


def decoded(text):
    """As `strace -xx` prints names: every character in hexadecimal."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)
