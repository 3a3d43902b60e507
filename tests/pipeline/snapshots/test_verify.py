"""Verifying a snapshot: an untouched one passes, and every kind of damage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.lake.verify import verify
from pipeline.snapshots.manifest import root_hash, snapshot_id
from schemas.ids import canonical
from tests.pipeline.snapshots.written import publish_all, selection
from transforms.corpora.pack import END_OF_ARCHIVE, tar_members


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publishes one snapshot, which the tests copy."""
    return Path(publish_all(str(tmp_path_factory.mktemp("lake"))).url)


@pytest.fixture
def snapshot(published: Path, tmp_path: Path) -> Path:
    """Copies the snapshot to where it may be damaged."""
    return Path(shutil.copytree(published, tmp_path / published.name))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Edits a JSON file in place."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(canonical(document))


def framed(snapshot: Path) -> list[dict[str, Any]]:
    """Lists the samples, if the columns that frame them are there."""
    rows = pq.read_table(snapshot / "samples.parquet")
    if not {"shard", "offset", "length"} <= set(rows.column_names):
        return []
    return [row for row in rows.to_pylist() if isinstance(row["offset"], int)]


def sign(snapshot: Path) -> None:
    """Makes the manifest agree with the files again, as a forger would."""

    def change(manifest: dict[str, Any]) -> None:
        for entry in manifest["files"]:
            content = (snapshot / entry["path"]).read_bytes()
            entry["bytes"] = len(content)
            entry["sha256"] = sha256(content).hexdigest()
        manifest["root"] = root_hash(manifest)

    edit(snapshot / "manifest.json", change)


def shards(snapshot: Path) -> list[Path]:
    """Lists the shards of the training split."""
    return sorted((snapshot / "train").glob("*.tar"))


def test_an_untouched_snapshot_holds(snapshot: Path) -> None:
    report = verify(str(snapshot))
    assert report.problems == ()
    assert report.ok
    assert report.kind == "snapshot"
    assert report.checked["samples"] == 60
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files if path.name != "manifest.json")
    assert report.checked["bytes"] == size


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_every_flipped_byte_is_found(snapshot: Path) -> None:
    for path in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for at in (0, len(whole) // 3, len(whole) - 1):
            _flip(path, at)
            problems = verify(str(snapshot)).problems
            name = str(path.relative_to(snapshot))
            assert any(name in problem for problem in problems), (name, at)
            path.write_bytes(whole)
    assert verify(str(snapshot)).ok


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_every_truncated_file_is_found(snapshot: Path, keep: float) -> None:
    for path in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * keep)])
        problems = verify(str(snapshot)).problems
        assert any(str(path.relative_to(snapshot)) in problem for problem in problems)
        path.write_bytes(whole)


def test_every_removed_file_is_found(snapshot: Path) -> None:
    for path in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.unlink()
        problems = verify(str(snapshot)).problems
        assert any(str(path.relative_to(snapshot)) in problem for problem in problems)
        path.write_bytes(whole)


def test_swapped_shards_are_found(snapshot: Path) -> None:
    one, two, *_ = shards(snapshot)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    for signed in (False, True):
        problems = "\n".join(verify(str(snapshot)).problems)
        assert f"train/{one.name}" in problems
        assert f"train/{two.name}" in problems
        assert ("the manifest says" in problems) != signed
        sign(snapshot)


def test_strays_are_found(snapshot: Path) -> None:
    (snapshot / "train" / "extra.tar").write_bytes(END_OF_ARCHIVE)
    assert verify(str(snapshot)).problems == ("train/extra.tar: is not in the manifest",)


def test_a_forged_sample_is_found_by_its_key(snapshot: Path) -> None:
    """A shard rebuilt with equal sizes and new hashes holds, but for its keys and the id."""
    rows = pq.read_table(snapshot / "samples.parquet")
    row = rows.to_pylist()[0]
    shard = snapshot / row["shard"]
    content = shard.read_bytes()
    forged = tar_members("other", {"json": b"x" * (row["length"] - 512)})
    forged = forged[: row["length"]]
    assert len(forged) == row["length"]
    shard.write_bytes(content[: row["offset"]] + forged + content[row["offset"] + len(forged) :])
    hashes = [sha256(forged).hexdigest(), *rows["sha256"].to_pylist()[1:]]
    at = rows.column_names.index("sha256")
    pq.write_table(rows.set_column(at, "sha256", pa.array(hashes)), snapshot / "samples.parquet")
    sign(snapshot)
    problems = "\n".join(verify(str(snapshot)).problems)
    assert "have the key 'other'" in problems
    assert "snapshot's id" in problems


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("metadata", "where", value="1 = 1"), "snapshot's id"),
        (_set("metadata", "privacy", value=["none"]), "privacy 'blur'"),
        (_set("splits", "train", "samples", value=7), "totals of splits"),
        (_set("snapshot", value="0" * 20), "in the folder"),
        (_set("files", 0, "bytes", value=3), "has"),
        (_set("files", 0, "sha256", value="0" * 64), "altered"),
        (_set("files", 5, "sha256", value="0" * 64), "altered"),
        (_set("files", 5, "samples", value=3), "the manifest says 3 samples"),
        (_set("files", 0, value=[]), "not a file entry"),
        (_set("files", 0, "path", value="../../x"), "not a file entry"),
        (_set("files", value=[]), "does not list"),
        (_set("files", value={}), "'files' must be"),
        (_set("format", value=9), "format"),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_an_edited_manifest_is_found(
    snapshot: Path, change: Callable[[Any], None], says: str, signed: bool
) -> None:
    manifest = snapshot / "manifest.json"
    edit(manifest, change)
    if signed:
        edit(manifest, lambda document: document.update(root=root_hash(document)))
    problems = verify(str(snapshot)).problems
    assert any(says in problem for problem in problems), problems
    if not signed and says not in {"format", "'files' must be"}:
        assert any("root" in problem for problem in problems)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("splits", "train", "units", 0, value=[]), "unit 0 reads 0 samples"),
        (_set("splits", "train", "units", 0, 0, 2, value=1), "does not match"),
        (_set("splits", "train", "units", 0, 0, 3, value=512), "does not match"),
        (_set("splits", "train", "units", 0, 0, 4, value=1), "does not match"),
        (
            _set("splits", "train", "units", 0, 0, 0, value="train/999999.tar"),
            "does not match",
        ),
        (_set("splits", "train", "units", 0, 0, 1, value=-1), "does not match"),
        (_set("splits", "train", "units", 0, 0, value=[1, 2]), "not have the structure"),
        (_set("splits", "train", "units", value=None), "not have the structure"),
        (_set("splits", "train", "unit_bytes", 0, value=1), "unit_bytes is"),
        (_set("splits", "train", "imbalance", value=1.0), "imbalance is"),
        (_set("splits", "train", "repeated", value=99), "repeated is"),
        (_set("splits", "val", value={}), "not have the structure"),
        (_set("splits", value={}), "has splits []"),
        (_set("splits", value=3), "not have the structure"),
        (_set("topology", "units", value=5), "has 6 units, the topology 5"),
        (_set("topology", "units", value=0), "not have the structure"),
        (_set("format", value=2), "not of format 1"),
    ],
)
def test_an_edited_plan_is_found(snapshot: Path, change: Callable[[Any], None], says: str) -> None:
    edit(snapshot / "plan.json", change)
    assert any("plan.json: altered" in p or "has" in p for p in verify(str(snapshot)).problems)
    sign(snapshot)
    problems = verify(str(snapshot)).problems
    assert any(says in problem for problem in problems), problems
    assert any("snapshot's id" in problem for problem in problems)


def _rows(snapshot: Path, change: Callable[[pa.Table], pa.Table]) -> tuple[str, ...]:
    path = snapshot / "samples.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    sign(snapshot)
    return verify(str(snapshot)).problems


def _column(name: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        new = pa.array(values(rows[name].to_pylist()))
        return rows.set_column(rows.column_names.index(name), name, new)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_column("drive_id", lambda v: ["d"] * len(v)), "drive d leaks"),
        (_column("offset", lambda v: [1, *v[1:]]), "places it wrongly"),
        (_column("length", lambda v: [1 << 60, *v[1:]]), "claims"),
        (_column("length", lambda v: [-1, *v[1:]]), "places it wrongly"),
        (_column("position", lambda v: v[::-1]), "places it wrongly"),
        (_column("sha256", lambda v: v[::-1]), "altered"),
        (_column("event_id", lambda v: [v[1], *v[1:]]), "twice"),
        (_column("shard", lambda v: ["../" + v[0], *v[1:]]), "the manifest does not"),
        (_column("split", lambda v: ["val"] * len(v)), "is not the folder"),
        (_column("offset", lambda v: [None, *v[1:]]), "['offset']"),
        (_column("offset", lambda v: [str(x) for x in v]), "['offset']"),
        (lambda rows: rows.drop_columns(["shard"]), "['shard']"),
        (lambda rows: rows.slice(1), "snapshot's id"),
        (lambda rows: rows.slice(0, 0), "samples.parquet names this shard" + "|does not"),
    ],
)
def test_forged_samples_are_found(
    snapshot: Path, change: Callable[[pa.Table], pa.Table], says: str
) -> None:
    problems = _rows(snapshot, change)
    assert any(part in problem for part in says.split("|") for problem in problems), problems


def test_a_folder_without_manifest_is_not_published(snapshot: Path) -> None:
    (snapshot / "manifest.json").unlink()
    (problem,) = verify(str(snapshot)).problems
    assert "not published" in problem


def test_ids_are_recomputed_from_what_was_published(published: Path) -> None:
    chosen = selection(str(published.parents[2]))
    metadata = json.loads((published / "manifest.json").read_bytes())["metadata"]
    assert snapshot_id(chosen.rows, chosen.plan, metadata) == published.name
