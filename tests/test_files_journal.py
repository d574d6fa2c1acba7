"""`winit_fast.files.journal`: which blocks count after a crash; nothing that is torn, wrong or another's does."""

import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_files import make

from winit_fast.files import journal
from winit_fast.files.journal import Intent, Journal, read_journal

RECIPE, LAYOUT = make(("user_id", (3001, 67), "float16"), ("bias", (33,), "float32"))
INTENT = Intent.of(LAYOUT, RECIPE, 1 << 16, None)  # 7 blocks
BLOCKLESS = json.dumps({**json.loads(INTENT.to_bytes()), "block_size": 0}).encode()


@pytest.fixture(autouse=True)
def boot(monkeypatch):
    """The machine has been booted once."""
    monkeypatch.setattr(journal, "read_boot", lambda: "11111111-2222-3333-4444-555555555555")


def written(path, records="", intent=INTENT, blocks=()):
    """A journal of these records: digits are blocks, | is a mark."""
    one = Journal(path)
    one.begin(intent, blocks)
    for record in records:
        if record == "|":
            one.mark()
        else:
            one.record(int(record))
    one.close()
    return path.read_bytes()


def start_of_records(content):
    found = journal._HEAD.unpack_from(content)
    return journal._aligned(journal._HEAD.size + found[2] + found[3])


@pytest.mark.parametrize(
    ("records", "marked"),
    [("", ""), ("|", ""), ("012", ""), ("012|", "012"), ("01|23", "01"), ("50|4|12|", "50412"), ("00|1", "0")],
)
def test_recorded_blocks_count_on_the_same_boot_and_marked_ones_on_another(records, marked, tmp_path, monkeypatch):
    written(tmp_path / "j", records)
    recorded = tuple(dict.fromkeys(int(one) for one in records if one != "|"))
    before = tuple(map(int, marked))
    assert read_journal(tmp_path / "j") == (INTENT, recorded, before)
    for other in ("another", ""):  # or one that is not known
        monkeypatch.setattr(journal, "read_boot", lambda other=other: other)
        assert read_journal(tmp_path / "j") == (INTENT, before, before)


def test_without_a_known_boot_marks_alone_count(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "read_boot", lambda: "")
    written(tmp_path / "j", "01|23")
    assert read_journal(tmp_path / "j").blocks == (0, 1)


def test_this_system_has_one_boot_or_none(monkeypatch):
    monkeypatch.undo()
    assert journal.read_boot() == journal.read_boot()
    assert os.path.exists("/proc/sys/kernel/random/boot_id") == bool(journal.read_boot())


def test_a_new_journal_takes_the_place_of_the_old_one_with_what_is_on_the_disk(tmp_path, monkeypatch):
    written(tmp_path / "j", "01|2")
    monkeypatch.setattr(journal, "read_boot", lambda: "another")
    written(tmp_path / "j", "56", blocks=(1, 0))
    assert read_journal(tmp_path / "j") == (INTENT, (1, 0, 5, 6), (1, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_what_came_after_the_last_mark_can_be_taken_back(tmp_path):
    one = Journal(tmp_path / "j")
    one.begin(INTENT)
    one.record(3)
    one.mark()
    one.record(4)
    one.forget()
    assert one.blocks == 1
    assert read_journal(tmp_path / "j").blocks == (3,)
    one.record(5)
    one.mark()
    assert read_journal(tmp_path / "j") == (INTENT, (3, 5), (3, 5))
    one.close()
    one.close()


def test_a_torn_record_and_all_behind_it_count_for_nothing(tmp_path):
    content = written(tmp_path / "j", "01|234|5")
    first = start_of_records(content)
    records = "|01|234|5"
    assert len(content) == first + 8 * len(records)
    for size in range(first, len(content) + 1):
        (tmp_path / "j").write_bytes(content[:size])
        whole = records[: (size - first) // 8]
        assert read_journal(tmp_path / "j").blocks == tuple(int(one) for one in whole if one != "|")


def test_a_record_with_any_bit_flipped_ends_the_journal(tmp_path):
    content = written(tmp_path / "j", "01|234|5")
    first = start_of_records(content)
    for bit in range(8 * first, 8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "j").write_bytes(flipped)
        before = "|01|234|5"[: (bit // 8 - first) // 8]
        assert read_journal(tmp_path / "j").blocks == tuple(int(one) for one in before if one != "|")


def test_a_beginning_with_any_byte_changed_is_refused_or_is_of_another_boot(tmp_path):
    content = written(tmp_path / "j", "01|2")
    for place in range(start_of_records(content)):
        changed = bytearray(content)
        changed[place] ^= 0x41
        (tmp_path / "j").write_bytes(changed)
        if 8 <= place < 48:
            assert read_journal(tmp_path / "j").blocks == (0, 1)
        elif place < journal._HEAD.size + len(INTENT.to_bytes()) + len(INTENT.header):
            with pytest.raises(ValueError, match="is damaged, or not a journal of winit_fast"):
                read_journal(tmp_path / "j")


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_no_journal(tmp_path_factory, content, has_magic):
    path = tmp_path_factory.mktemp("any") / "j"
    path.write_bytes(b"WFJOURN1" * has_magic + content)
    with pytest.raises(ValueError, match="is damaged, or not a journal"):
        read_journal(path)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b'{"segments": [1]}', b"\xff", BLOCKLESS, b"[" * 100_000])
def test_an_intent_that_says_something_else_is_refused(text, tmp_path):
    head = journal._HEAD.pack(b"WFJOURN1", b"", len(text), 0, journal._digest(text))
    (tmp_path / "j").write_bytes(head + text)
    with pytest.raises(ValueError, match="is damaged, or not a journal"):
        read_journal(tmp_path / "j")


WRONG = {
    "block_size": (1, 4096, 3 << 15, 1 << 25, -65536, 65536.0, True, None, "65536"),  # of 1: as many blocks as bytes
    "size": (-1, 1.5, "9", None, True, [9]),
    "replaced": (1, True, "yes", [None], [[1]]),
    "recipe": (None, 7, {}),
    "format": (None, 7, []),
    "segments": (
        7, "ab", [["t", [0], [1]]], [[7, [0], [1], 0]], [["t", [0.5], [1], 0]], [["t", [0], [-1], 0]],
        [["t", [0], ["a"], 0]], [["t", 0, [1], 0]], [["t", [0], [1], None]],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_journal_of_anybodys_is_refused_by_what_it_says(field, value, tmp_path):
    """Its digest is right: who writes a journal can make one."""
    text = json.dumps({**json.loads(INTENT.to_bytes()), field: value}).encode()
    head = journal._HEAD.pack(b"WFJOURN1", b"", len(text), 0, journal._digest(text))
    (tmp_path / "j").write_bytes(head + text)
    with pytest.raises(ValueError, match="is damaged, or not a journal"):
        read_journal(tmp_path / "j")


@pytest.mark.parametrize(
    ("offset", "shape"), [((0, 0), (3002, 67)), ((3000, 1), (1, 67)), ((0,), (3001,)), ((0, 0, 0), (3001, 67, 1))]
)
def test_a_journal_of_a_part_that_no_tensor_has_is_refused(offset, shape, tmp_path):
    (name, *_, start), *others = INTENT.segments
    text = json.dumps({**json.loads(INTENT.to_bytes()), "segments": [(name, offset, shape, start), *others]}).encode()
    with pytest.raises(ValueError, match=r"the part .* must be of '"):
        Intent.from_bytes(text, INTENT.header).read()


def test_blocks_of_the_header_end_the_journal(tmp_path):
    header = Intent.of(LAYOUT._replace(header=bytes(1 << 17), size=LAYOUT.size + (1 << 17)), RECIPE, 1 << 16, None)
    written(tmp_path / "j", "231", intent=header)
    assert read_journal(tmp_path / "j").blocks == (2, 3)


def test_records_of_another_file_count_for_nothing(tmp_path):
    others = [
        Intent.of(
            LAYOUT, make(("user_id", (3001, 67), "float16"), ("bias", (33,), "float32"), seed=8)[0], 1 << 16, None
        ),
        Intent.of(LAYOUT, RECIPE, 1 << 17, None),
        Intent.of(LAYOUT._replace(header=bytes(4096)), RECIPE, 1 << 16, None),
        Intent.of(LAYOUT._replace(segments=LAYOUT.segments[:1]), RECIPE, 1 << 16, None),
    ]
    content = written(tmp_path / "a")
    for other in others:
        records = written(tmp_path / "b", "01|", intent=other)
        records = records[start_of_records(records) + 8 :]
        (tmp_path / "a").write_bytes(content + records)
        assert read_journal(tmp_path / "a").blocks == ()


def test_blocks_that_the_file_does_not_have_end_the_journal(tmp_path):
    written(tmp_path / "j", "067")
    assert read_journal(tmp_path / "j").blocks == (0, 6)


def test_a_journal_does_not_depend_on_the_path(tmp_path):
    (tmp_path / "deeper").mkdir()
    assert written(tmp_path / "j", "01|") == written(tmp_path / "deeper" / "other", "01|")


def test_a_journal_that_is_not_there_is_none(tmp_path):
    assert read_journal(tmp_path / "j") is None


def test_an_intent_is_read_as_it_was_written():
    text = INTENT.to_bytes()
    assert Intent.from_bytes(text, INTENT.header) == INTENT
    assert json.loads(text)["block_size"] == 1 << 16


def test_a_record_that_the_disk_takes_half_of_is_an_error(tmp_path, monkeypatch):
    one = Journal(tmp_path / "j")
    one.begin(INTENT)
    kept = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: kept(descriptor, data[:5]))
    with pytest.raises(OSError, match="no room for the journal") as raised:
        one.record(1)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(tmp_path / "j")
    monkeypatch.undo()
    one.record(2)
    one.close()
    assert read_journal(tmp_path / "j").blocks == ()
