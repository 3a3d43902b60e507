"""Discovery: every file of any folder is accounted for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from schemas.errors import UsageError
from schemas.records import Count
from tests.web import serving_folder
from transforms.readers.discover import Discovery, discover

STAMP = "2026-03-17_17-52-09"


def _write(root: Path, name: str, content: bytes = b"bytes") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _balance(found: Discovery) -> tuple[int, int, int]:
    (count,) = found.counts
    assert (count.stage, count.of) == ("discover", "files")
    return count.kept, count.filtered, count.rejected


def test_every_file_is_kept_filtered_or_rejected(tmp_path: Path) -> None:
    """Members of logs are kept, notes filtered, unclaimed recordings rejected."""
    _write(tmp_path, f"TeslaCam/SavedClips/{STAMP}/{STAMP}-front.mp4")
    _write(tmp_path, f"TeslaCam/SavedClips/{STAMP}/event.json", b"{}")
    _write(tmp_path, f"TeslaCam/SavedClips/{STAMP}/thumb.png")
    _write(tmp_path, f"TeslaCam/EncryptedClips/{STAMP}-front.mp4")
    _write(tmp_path, "dashcam/clip.mkv")
    _write(tmp_path, "README.md")
    _write(tmp_path, "drive.blf")
    found = discover([str(tmp_path)])
    assert [(log.format, log.name) for log in found.logs] == [
        ("teslacam", f"TeslaCam/SavedClips/{STAMP}"),
        ("video", "dashcam/clip.mkv"),
    ]
    assert [m.name for m in found.logs[0].members] == [f"{STAMP}-front.mp4", "event.json"]
    assert [(Path(r.uri).name, r.reason) for r in found.rejects] == [("drive.blf", "unrecognised")]
    assert _balance(found) == (3, 3, 1)


def test_what_systems_leave_on_a_drive_is_no_recording(tmp_path: Path) -> None:
    """It is left out and counted, unless it is what was asked for."""
    clip = f"TeslaCam/SavedClips/{STAMP}/{STAMP}-front.mp4"
    _write(tmp_path, clip)
    (alone,) = discover([str(tmp_path)]).logs
    litter = [
        f"TeslaCam/SavedClips/{STAMP}/._{STAMP}-front.mp4",
        f".Trashes/501/{STAMP}/{STAMP}-front.mp4",
        f".Trash-1000/files/{STAMP}-back.mp4",
        "$RECYCLE.BIN/S-1-5/$R1.mp4",
        "System Volume Information/a.mkv",
        "@eaDir/clip.mp4/preview.mp4",
        "lost+found/#12.mp4",
        "__MACOSX/drive/._a.blf",
    ]
    for number, name in enumerate(litter):
        _write(tmp_path, name, b"%d" % number)
    found = discover([str(tmp_path)])
    assert found.logs == (alone,)
    assert found.rejects == ()
    assert _balance(found) == (1, len(litter), 0)
    (wanted,) = discover([str(tmp_path / litter[3])]).logs
    assert wanted.format == "video"
    assert len(discover([str(tmp_path / ".Trashes")]).logs) == 1


def test_a_merged_video_of_an_event_is_no_drive_of_its_own(tmp_path: Path) -> None:
    folder = f"TeslaCam/SavedClips/{STAMP}"
    _write(tmp_path, f"{folder}/{STAMP}-front.mp4")
    (alone,) = discover([str(tmp_path)]).logs
    _write(tmp_path, f"{folder}/event.mp4", b"merged")
    found = discover([str(tmp_path)])
    assert found.logs == (alone,)
    assert _balance(found) == (1, 1, 0)
    _write(tmp_path, "elsewhere/event.mp4", b"merged")
    assert [log.name for log in discover([str(tmp_path)]).logs][1:] == ["elsewhere/event.mp4"]


def test_the_recordings_are_found(data: Path) -> None:
    """One comma2k19 segment, two robot episodes, nine recordings of ROS, two video files."""
    found = discover([str(data)])
    assert sorted(log.format for log in found.logs) == [
        "comma2k19", "lerobot", "lerobot", *4 * ["mcap"], *5 * ["rosbag"], "video", "video",
    ]  # fmt: skip
    assert sum(_balance(found)) == sum(1 for path in data.rglob("*") if path.is_file())


def test_the_id_of_a_log_depends_on_its_content_only(tmp_path: Path) -> None:
    """Moves and copies keep the id; a changed byte at either end changes it."""
    content = bytes(range(256)) * 200
    first = _write(tmp_path, "a/clip.mp4", content)
    (log,) = discover([str(first.parent)]).logs
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    both = discover([str(tmp_path)])
    assert [(x.log_id, x.name) for x in both.logs] == [(log.log_id, "a/clip.mp4")]
    assert _balance(both) == (1, 1, 0)
    ids = {log.log_id}
    for at in (0, 4095, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 1
        first.write_bytes(changed)
        ids.add(discover([str(first)]).logs[0].log_id)
    first.write_bytes(content + b"\0")
    ids.add(discover([str(first)]).logs[0].log_id)
    assert len(ids) == 5


def test_inputs_may_overlap(tmp_path: Path) -> None:
    """A file in three inputs is one log, and is counted once."""
    path = _write(tmp_path, "a/clip.mp4", b"x" * 9)
    found = discover([str(tmp_path), str(tmp_path / "a"), str(path)])
    assert len(found.logs) == 1
    assert found.counts == (Count("discover", "files", kept=1),)


@pytest.mark.parametrize(
    "name",
    ["a|b.mp4", "wet road #1.mp4", "[0-9]*.mp4", "Straße 東京.mp4", "a?b&c=%20.mp4", "~x.mp4"],
)
def test_names_may_hold_any_character(tmp_path: Path, name: str) -> None:
    """Names that look like patterns or escapes are literal, and their URIs open again."""
    _write(tmp_path, f"odd {name}/{name}", b"content")
    (log,) = discover([str(tmp_path)]).logs
    assert log.name == f"odd {name}/{name}"
    fs, path = fsspec.core.url_to_fs(log.members[0].uri)
    assert fs.cat_file(path) == b"content"


def test_names_that_no_uri_can_express_are_rejects(tmp_path: Path) -> None:
    """Names with "::" or a line feed, or not in UTF-8, are rejected; the others are claimed."""
    _write(tmp_path, "a::b.mp4")
    _write(tmp_path, "a\nb.mp4")
    _write(tmp_path, "good.mp4")
    odd = os.fsencode(tmp_path) + b"/\xff.mp4"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    found = discover([str(tmp_path)])
    assert [log.name for log in found.logs] == ["good.mp4"]
    assert [r.reason for r in found.rejects] == ["unsupported"] * 3
    assert _balance(found) == (1, 0, 3)


def test_circular_links_end(tmp_path: Path) -> None:
    """Folders that link to their parents are listed once; a broken link is a reject."""
    _write(tmp_path, "a/clip.mp4")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    found = discover([str(tmp_path)])
    assert [log.name for log in found.logs] == ["a/clip.mp4"]
    assert [(Path(r.uri).name, r.reason) for r in found.rejects] == [("gone.mp4", "unreadable")]


def _outside(found: Discovery) -> list[str]:
    return sorted(Path(r.uri).name for r in found.rejects if r.reason == "outside")


def test_a_link_that_leaves_the_input_is_rejected_unless_links_are_followed(
    tmp_path: Path,
) -> None:
    """Links to files and folders, relative and absolute, through other links, to a device."""
    root = tmp_path / "fleet"
    _write(root, "a/clip.mp4", b"a")
    _write(tmp_path, "fleet-2/out.mp4", b"b")
    _write(tmp_path, "fleet-2/deep/in.mp4", b"c")
    ways = {
        "file.mp4": "../fleet-2/out.mp4",
        "a/absolute.mp4": f"{tmp_path}/fleet-2/out.mp4",
        "folder": f"{tmp_path}/fleet-2/deep",
        "up": "..",
        "chain.mp4": "file.mp4",
        "through.mp4": "folder/in.mp4",
        "device.mp4": "/dev/zero",
        "notes.txt": "/etc/hosts",
        "gone.mp4": "../fleet-2/gone.mp4",
    }
    for name, target in ways.items():
        (root / name).symlink_to(target)
    found = discover([str(root)])
    assert [log.name for log in found.logs] == ["a/clip.mp4"]
    assert _outside(found) == sorted(Path(name).name for name in ways)
    assert _balance(found) == (1, 0, len(ways))
    (note,) = found.notes
    assert note.startswith(f"{len(ways)} links lead out of the inputs and were not followed")
    assert "--follow-links" in note
    followed = discover([str(root)], follow_links=True)
    read = {log.name for log in followed.logs}
    assert read >= {"a/clip.mp4", "a/absolute.mp4", "file.mp4", "folder/in.mp4", "chain.mp4"}
    assert _outside(followed) == []
    assert followed.notes == ()
    reasons = {Path(r.uri).name: r.reason for r in followed.rejects}
    assert reasons["device.mp4"] == "unsupported"
    assert reasons["gone.mp4"] == "unreadable"


def test_a_link_within_the_input_is_followed(tmp_path: Path) -> None:
    """Also where the input itself is reached by a link."""
    root = tmp_path / "fleet"
    _write(root, "store/1.bin", b"content")
    _write(root, "days/one/b.mp4", b"other")
    (root / "clip.mp4").symlink_to("store/1.bin")
    (root / "days" / "two").symlink_to(root / "days" / "one")
    named = tmp_path / "named"
    named.symlink_to(root)
    for uri in (root, named):
        found = discover([str(uri)])
        assert [log.name for log in found.logs] == ["clip.mp4", "days/one/b.mp4"]
        assert (found.rejects, found.notes) == ((), ())
    single = discover([str(root / "clip.mp4")])
    assert [log.name for log in single.logs] == ["clip.mp4"]


def test_links_that_end_nowhere_are_rejects(tmp_path: Path) -> None:
    _write(tmp_path, "good.mp4")
    (tmp_path / "one.mp4").symlink_to("two.mp4")
    (tmp_path / "two.mp4").symlink_to("one.mp4")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "gone.mp4").symlink_to("nothing.mp4")
    found = discover([str(tmp_path)])
    assert [log.name for log in found.logs] == ["good.mp4"]
    assert {Path(r.uri).name: r.reason for r in found.rejects} == {
        "one.mp4": "unreadable",
        "two.mp4": "unreadable",
        "gone.mp4": "unreadable",
    }
    assert _balance(found) == (1, 1, 3)


def test_a_sidecar_that_leaves_the_input_is_not_read(tmp_path: Path) -> None:
    """The log is found without it, as it would be without the file."""
    root = tmp_path / "fleet"
    _write(root, f"SavedClips/{STAMP}/{STAMP}-front.mp4")
    _write(tmp_path, "event.json", b'{"timestamp": "2026-03-17T17:52:09", "reason": "secret"}')
    (root / "SavedClips" / STAMP / "event.json").symlink_to(tmp_path / "event.json")
    found = discover([str(root)])
    (log,) = found.logs
    assert [member.name for member in log.members] == [f"{STAMP}-front.mp4"]
    assert _outside(found) == ["event.json"]


def test_a_listing_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    """A store may list any name; a web server's signed link would be stored."""
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/listed/b.mp4", b"b")
    fs.store["/listed/../elsewhere/a.mp4"] = fs.store["/listed/b.mp4"]
    found = discover(["memory://listed"])
    assert _outside(found) == ["a.mp4"]
    fs.store.pop("/listed/../elsewhere/a.mp4")
    with serving_folder(tmp_path) as web:
        web.listing = '<a href="a.mp4?sig=hunter2">a</a>'
        found = discover([web.url])
    (reject,) = found.rejects
    assert (reject.uri, reject.reason) == (f"{web.url}/a.mp4", "unsupported")
    assert "hunter2" not in reject.detail
    assert _balance(found) == (0, 0, 1)


def test_an_archive_is_refused_and_a_cache_is_not(tmp_path: Path) -> None:
    """A file's address has to open it again, in another process."""
    shutil.make_archive(str(tmp_path / "a"), "zip", _write(tmp_path, "in/b.mp4").parent)
    with pytest.raises(UsageError, match="unpack it"):
        discover([f"zip://::{tmp_path}/a.zip"])
    with serving_folder(tmp_path / "in") as web:
        (log,) = discover([f"simplecache::{web.url}"]).logs
    assert log.members[0].uri == f"{web.url}/b.mp4"


def test_an_input_with_a_secret_is_refused() -> None:
    with pytest.raises(UsageError, match="input http://host/drives: the URL holds") as refusal:
        discover(["http://joe:hunter2@host/drives"])
    assert "hunter2" not in str(refusal.value)


_AS_NOBODY = """
import os, sys
from transforms.readers.discover import discover
import transforms.readers.teslacam, transforms.readers.comma2k19
import transforms.readers.lerobot, transforms.readers.video
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
found = discover([sys.argv[1]])
print([log.name for log in found.logs])
print([(os.path.basename(r.uri), r.reason) for r in found.rejects])
print(found.counts[0].kept, found.counts[0].filtered, found.counts[0].rejected)
"""


def test_what_must_not_be_read_is_a_reject_and_the_others_are_claimed() -> None:
    """A folder and a file without read permission, for a user who is not root."""
    # pytest's own folders are closed to other users.
    root = Path(os.environ.get("TMPDIR", "/tmp")) / f"fleetmill-discover-{os.getpid()}"  # noqa: S108 - must be open to nobody
    shutil.rmtree(root, ignore_errors=True)
    try:
        _write(root, "open/clip.mp4")
        _write(root, "locked/clip.mp4", b"other")
        shut = _write(root, "shut.mp4", b"third")
        root.chmod(0o755)
        (root / "open").chmod(0o755)
        (root / "locked").chmod(0)
        shut.chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(root)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    finally:
        (root / "locked").chmod(0o755)
        shutil.rmtree(root)
    assert done.stdout.splitlines() == [
        "['open/clip.mp4']",
        "[('locked', 'unreadable'), ('shut.mp4', 'unreadable')]",
        "1 0 2",
    ]


def test_logs_are_the_same_on_every_file_system(tmp_path: Path) -> None:
    """The same files in memory:// are the same logs."""
    _write(tmp_path, f"{STAMP}/{STAMP}-front.mp4", b"q" * 30_000)
    fs = fsspec.filesystem("memory")
    fs.pipe_file(f"/discover/{STAMP}/{STAMP}-front.mp4", b"q" * 30_000)
    (there,) = discover(["memory://discover"]).logs
    (here,) = discover([str(tmp_path)]).logs
    assert (there.log_id, there.name) == (here.log_id, here.name)
    assert there.members[0].uri == f"memory:///discover/{STAMP}/{STAMP}-front.mp4"


def test_one_format_can_be_forced(tmp_path: Path) -> None:
    """With the format `video`, each file of a TeslaCam folder is a log."""
    _write(tmp_path, f"{STAMP}/{STAMP}-front.mp4", b"a")
    _write(tmp_path, f"{STAMP}/{STAMP}-back.mp4", b"b")
    assert [log.format for log in discover([str(tmp_path)], "video").logs] == ["video"] * 2
    assert [log.format for log in discover([str(tmp_path)]).logs] == ["teslacam"]


def test_bad_inputs_are_usage_errors(tmp_path: Path) -> None:
    """The message names the missing input, the unknown scheme, the unknown format."""
    with pytest.raises(UsageError, match="nowhere"):
        discover([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="gopher"):
        discover(["gopher://x"])
    with pytest.raises(UsageError, match="teslacam"):
        discover([str(tmp_path)], "betamax")


def test_an_empty_folder_has_no_logs(tmp_path: Path) -> None:
    """No rejects either, and counts of zero."""
    found = discover([str(tmp_path)])
    assert (found.logs, found.rejects, _balance(found)) == ((), (), (0, 0, 0))


def test_a_log_that_is_known_by_its_listing_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode() * 100)
    reads: list[str] = []
    cat_file = LocalFileSystem.cat_file

    def counted(fs: LocalFileSystem, path: str, *arguments: object, **named: object) -> object:
        reads.append(path)
        return cat_file(fs, path, *arguments, **named)

    monkeypatch.setattr(LocalFileSystem, "cat_file", counted)
    first = discover([str(tmp_path)])
    assert (len(first.logs), first.known, len(reads)) == (3, (), 3)
    known = {log.listing: log.log_id for log in first.logs}
    again = discover([str(tmp_path)], recognise=lambda _listings: known)
    assert len(reads) == 3
    assert again.logs == ()
    assert [log.log_id for log in again.known] == [log.log_id for log in first.logs]
    assert again.counts == first.counts
    (tmp_path / "b.mp4").write_bytes(b"x" * 100)
    changed = discover([str(tmp_path)], recognise=lambda _listings: known)
    assert [log.name for log in changed.logs] == ["b.mp4"]
    assert len(changed.known) == 2


def test_a_log_that_grew_is_another_log(tmp_path: Path) -> None:
    """A log is known as a whole, however its files are grouped."""
    folder = tmp_path / "TeslaCam" / "SentryClips" / "2026-05-01_12-00-00"
    folder.mkdir(parents=True)
    for minute in range(2):
        (folder / f"2026-05-01_12-0{minute}-00-front.mp4").write_bytes(b"x" * 9)
    (log,) = discover([str(tmp_path)]).logs
    known = {log.listing: log.log_id}
    assert discover([str(tmp_path)], recognise=lambda _listings: known).logs == ()
    (folder / "2026-05-01_12-02-00-front.mp4").write_bytes(b"x" * 9)
    (grown,) = discover([str(tmp_path)], recognise=lambda _listings: known).logs
    assert len(grown.members) == 3


def test_a_copy_of_a_known_log_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    (log,) = discover([str(tmp_path)]).logs
    known = {log.listing: log.log_id}
    _write(tmp_path, "copy/a.mp4", b"x" * 100)
    found = discover([str(tmp_path)], recognise=lambda _listings: known)
    assert (found.logs, len(found.known)) == ((), 1)
    assert found.counts[0].total == 2
