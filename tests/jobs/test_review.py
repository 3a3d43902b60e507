"""`fleetmill review`: from a lake to files for import, and from an export to the lake."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from tests.auto_label.review.reviewed import annotated, choice
from tests.conftest import ROOT
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call
from tests.pages import commands


def test_tasks_are_imported_once_and_answers_come_back(chain: Chain, tmp_path: Path) -> None:
    lake, media = tmp_path / "lake", tmp_path / "media" / "review"
    shutil.copytree(chain.lake, lake)
    done = call("review", "push", "--lake", lake, "--out", media, "--json")
    assert done.code == 0, done.err
    (job,) = done.document["jobs"]
    assert done.document["imports"] == {"tasks-0001.json": job["tasks"]}
    tasks = json.loads((media / "tasks-0001.json").read_text())
    assert len({task["data"]["fleetmill"] for task in tasks}) == job["tasks"]
    assert (media / "config.xml").read_text().startswith("<View>")
    again = call("review", "push", "--lake", lake, "--out", media, "--json")
    assert (again.code, again.document["imports"]) == (0, {})

    key = tasks[0]["data"]["fleetmill"]
    (media / f"{key}.json").unlink()
    (media / "tasks-0001.json").write_text(json.dumps(tasks[1:]))
    more = call("review", "push", "--lake", lake, "--out", media, "--json")
    assert more.document["imports"] == {"tasks-0002.json": 1}

    verdicts = ["right", "wrong", "unsure"]
    exported = [
        annotated(task, choice("verdict", verdicts[number % 3]), unique_id=str(number))
        for number, task in enumerate(tasks)
    ]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    pulled = call("review", "pull", "--lake", lake, "--input", tmp_path / "export.json", "--json")
    assert pulled.code == 0, pulled.err
    assert sum(pulled.document["verdicts"].values()) == len(tasks)
    asked = "SELECT verdict, count(*) AS n FROM verdicts GROUP BY 1"
    rows = call("query", "--lake", lake, asked, "--format", "json").document
    assert {row["verdict"]: row["n"] for row in rows} == pulled.document["verdicts"]
    assert call("verify", lake).code == 0


def test_the_commands_of_the_page_work(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is made between them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(chain.lake, "lake")
    push, *others = (shlex.split(line)[1:] for line in commands(ROOT / "docs" / "review.md"))
    assert push[:2] == ["review", "push"]
    assert call(*push).code == 0
    tasks = json.loads(Path("media/review/tasks-0001.json").read_text())
    exported = [annotated(task, choice("verdict", "right"), unique_id="a") for task in tasks[:1]]
    Path("export.json").write_text(json.dumps(exported))
    assert others
    for line in others:
        done = call(*line)
        assert done.code == 0, done.err
    assert "right" in done.out


def test_help_lists_the_subcommands_and_their_flags() -> None:
    listed = call("review", "--help")
    assert listed.code == 0
    assert "push" in listed.out
    assert "pull" in listed.out
    assert "--address" in call("review", "push", "--help").out


def test_a_missing_export_is_bad_usage(chain: Chain, tmp_path: Path) -> None:
    done = call("review", "pull", "--lake", chain.lake, "--input", tmp_path / "none.json")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "export the project as JSON" in line


def test_a_secret_in_an_address_is_refused(chain: Chain, tmp_path: Path) -> None:
    address = "https://user:secret@media.example.org/"
    done = call("review", "push", "--lake", chain.lake, "--out", tmp_path, "--address", address)
    assert done.code == 2
    assert "secret" not in done.err
