"""How far a job is: what is shown in a terminal, in a log and where tqdm is missing."""

import io
import sys
from contextlib import suppress
from itertools import pairwise

import pytest

from winit_fast.files import progress as progress_module
from winit_fast.files.progress import ShownProgress, describe
from winit_fast.files.sizes import read_size, show_size

GB = 10**9


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(progress_module, "monotonic", lambda: now[0])
    return now


def shown(clock, steps, *, is_terminal):
    """What is printed for (second, done) of 10 GB."""
    stream = io.StringIO()
    with ShownProgress(stream, is_terminal=is_terminal) as progress:
        for second, done in steps:
            clock[0] = 100.0 + second
            progress(done, 10 * GB)
    return stream.getvalue()


STEPS = [(second / 10, second * GB // 10) for second in range(101)]  # 1 GB/s, for 10 s


def test_a_log_has_a_line_every_five_seconds_and_no_control_characters(clock):
    text = shown(clock, STEPS, is_terminal=False)
    assert text == " 50% 5.0/10.0 GB  1.00 GB/s  0:05 left\n100% 10.0/10.0 GB  1.00 GB/s  0:00 left\n"


def test_a_short_job_leaves_no_line_in_a_log(clock):
    assert shown(clock, STEPS[:49], is_terminal=False) == ""


def test_a_terminal_without_tqdm_has_one_line_that_is_written_again(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    text = shown(clock, STEPS, is_terminal=True)
    assert text.count("\n") == 1
    lines = text.rstrip("\n").split("\r")
    assert lines[0] == ""
    assert lines[1] == "  0% 0.0/10.0 GB"
    assert lines[51].rstrip() == " 50% 5.0/10.0 GB  1.00 GB/s  0:05 left"
    assert lines[-1].rstrip() == "100% 10.0/10.0 GB  1.00 GB/s  0:00 left"
    assert all(len(later) >= len(line.rstrip()) for line, later in pairwise(lines))  # nothing stays


def test_a_terminal_with_tqdm_has_a_bar(clock):
    pytest.importorskip("tqdm")
    text = shown(clock, STEPS, is_terminal=True)
    lines = text.rstrip("\n").split("\r")
    assert text.endswith("\n")
    half = next(line for line in lines if line.startswith(" 50%"))
    assert half.rstrip().endswith("5.0/10.0 GB  1.00 GB/s  0:05 left")
    assert "█" in half or "#" in half
    assert lines[-1].startswith("100% ")


def test_drawing_is_not_more_frequent_than_a_terminal_needs(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    steps = [(second / 1000, second * GB // 100) for second in range(1000)]
    assert shown(clock, steps, is_terminal=True).count("\r") == 10


def test_the_end_is_always_drawn_in_a_terminal(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert shown(clock, [(0, 0), (0.01, 10 * GB)], is_terminal=True).split("\r")[-1].startswith("100%")


def test_what_was_kept_does_not_count_for_the_rate(clock):
    steps = [(second / 10, 6 * GB + second * GB // 100) for second in range(51)]  # 0.1 GB/s
    assert shown(clock, steps, is_terminal=False) == " 65% 6.5/10.0 GB  0.10 GB/s  0:35 left\n"


def test_the_rate_is_that_of_the_last_seconds(clock):
    fast = [(second / 10, second * GB // 10) for second in range(51)]
    slow = [(5 + second / 10, 5 * GB + second * GB // 1000) for second in range(1, 301)]
    assert "0.01 GB/s" in shown(clock, fast + slow, is_terminal=False).splitlines()[-1]


def test_an_interrupt_ends_the_line(monkeypatch, clock):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    stream = io.StringIO()
    with suppress(KeyboardInterrupt), ShownProgress(stream, is_terminal=True) as progress:
        progress(1, 2)
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\n")


def test_a_job_that_reports_nothing_prints_nothing():
    stream = io.StringIO()
    with ShownProgress(stream, is_terminal=True):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("done", "total", "rate", "text"),
    [
        (6_200_000_000, 10_240_000_000, 650_000_000, " 60% 6.2/10.2 GB  0.65 GB/s  0:06 left"),
        (0, 0, 0, "100% 0/0 bytes"),
        (5, 999, 0, "  0% 5/999 bytes"),
        (10**12, 10**13, 10**8, " 10% 1.0/10.0 TB  0.10 GB/s  25:00:00 left"),
        (999_999, 10**6, 1, " 99% 1.0/1.0 MB  0.00 GB/s  0:01 left"),
    ],
)
def test_a_line_is_in_the_units_of_the_whole(done, total, rate, text):
    assert describe(done, total, rate) == text


# Sizes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("256MiB", 256 << 20), ("1GB", 10**9), ("1.5G", 3 << 29), ("2t", 2 << 40), ("4096", 4096), (" 7 kB ", 7000),
        ("1kib", 1024), ("12b", 12), (17, 17), ("0.1GB", 10**8), ("9007199254740993", 9007199254740993),
    ],
)  # fmt: skip
def test_sizes_are_read_exactly(text, count):
    assert read_size(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1", "1e9", "1 2", "1PB", "1GBs", "٣GB", "1" * 30, "0x10", ".5GB"])
def test_what_is_no_size_is_refused_by_the_name_of_the_argument(text):
    with pytest.raises(ValueError, match="max_file_size must be a number of bytes, such as"):
        read_size(text, "max_file_size")


@pytest.mark.parametrize("size", [0, "0GB", "0.1", -5])
def test_nothing_is_no_size(size):
    with pytest.raises(ValueError, match=f"memory must be at least 1 byte, got {size!r}"):
        read_size(size)


@pytest.mark.parametrize("size", [1.5, True, None, b"1GB"])
def test_a_size_is_an_int_or_a_text(size):
    with pytest.raises(TypeError, match="memory must be an int or a text"):
        read_size(size)


def test_sizes_are_shown_in_units_of_a_thousand():
    shown = [show_size(count) for count in (0, 999, 1000, 999_949, 999_950, 10_240_000_000, 10**18)]
    assert shown == ["0 bytes", "999 bytes", "1.0 kB", "999.9 kB", "1.0 MB", "10.2 GB", "1000.0 PB"]
