"""`fleetmill review`: from a lake to files for import, and from an export to the lake."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.lake.tables import Lake
from tests.auto_label.review.reviewed import annotated, choice, drawn
from tests.conftest import ROOT
from tests.jobs.conftest import Chain
from tests.jobs.inprocess import call
from tests.label_studio import EMAIL, LabelStudio, running
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
        annotated(task, choice("verdict", verdicts[number % 3]), id=number)
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
    exported = [annotated(task, choice("verdict", "right"), id=1) for task in tasks[:1]]
    Path("export.json").write_text(json.dumps(exported))
    printed = {}
    for line in others:
        done = call(*line)
        assert done.code == 0, done.err
        printed[line[0]] = done.out
    assert "right" in printed["query"]
    assert "reviewed" in printed["corpus"]


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A server that serves the files of its folder `documents`."""
    folder = tmp_path_factory.mktemp("review")
    (folder / "documents").mkdir()
    with running(folder / "server", folder / "documents") as started:
        yield started


@pytest.mark.review
def test_answers_on_a_server_come_back(
    chain: Chain, tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is killed before a push, and again before a pull; both wait for it."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    assert label_studio.documents is not None
    media = label_studio.documents / "review"
    to = ("--lake", lake, "--label-studio", label_studio.url, "--project", "the review", "--json")
    with _killed(label_studio):
        done = call("review", "push", "--out", media, *to)
    assert done.code == 0, done.err
    (number,), added = done.document["projects"], done.document["added"]
    assert added == len(list(media.glob("*.mp4")))
    again = call("review", "push", "--out", media, *to)
    assert (again.code, again.document["added"]) == (0, 0)
    shown = label_studio.ask("GET", f"/api/tasks?project={number}&page_size=100")
    assert shown["total"] == added
    video = shown["tasks"][0]["data"]["video"]
    assert label_studio.fetch(video).startswith(b"\0\0\0")

    for task in shown["tasks"]:
        body = {"result": [choice("verdict", "wrong")], "lead_time": 4.5}
        label_studio.ask("POST", f"/api/tasks/{task['id']}/annotations/", body)
    with _killed(label_studio):
        pulled = call("review", "pull", *to)
    assert pulled.code == 0, pulled.err
    assert pulled.document["verdicts"] == {"wrong": added}
    assert [job["tasks"] for job in call("review", "pull", *to).document["jobs"]] == [0]

    task = shown["tasks"][0]
    key = task["data"]["fleetmill"]
    (given,) = label_studio.ask("GET", f"/api/tasks/{task['id']}/annotations/")
    placed = {"frame": 2, "enabled": False, "x": 50, "y": 25, "width": 25, "height": 50}
    box = drawn("b1", [{**placed, "rotation": 0, "time": 0.1}], "car")
    changed = {"result": [choice("verdict", "right"), box]}
    label_studio.ask("PATCH", f"/api/annotations/{given['id']}/", changed)
    assert call("review", "pull", *to).code == 0
    rows = [row for row in Lake.open(str(lake)).read("verdicts").to_pylist() if row["task"] == key]
    assert [row["verdict"] for row in rows] == ["wrong", "right"]
    assert rows[1]["reviewer"] == EMAIL
    (found,) = rows[1]["boxes"]
    assert found["t_ns"] == task["data"]["frames_ns"][1]
    assert (found["x_px"], found["y_px"], found["w_px"], found["h_px"]) == (32, 12, 16, 24)
    _check_corpus(lake)

    exported = label_studio.ask("GET", f"/api/projects/{number}/export?exportType=JSON")
    (tmp_path / "export.json").write_text(json.dumps(exported))
    file = ("--lake", lake, "--input", tmp_path / "export.json", "--json")
    assert [job["tasks"] for job in call("review", "pull", *file).document["jobs"]] == [0]


@pytest.mark.review
def test_tasks_are_spread_over_projects_and_shared(
    chain: Chain, tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    lake = tmp_path / "lake"
    shutil.copytree(chain.lake, lake)
    assert label_studio.documents is not None
    to = ("--lake", lake, "--label-studio", label_studio.url, "--project", "spread", "--json")
    more = ("--project-tasks", 1, "--shared", 1, "--reviewers", 3)
    push = ("review", "push", "--out", label_studio.documents / "spread", *to, *more)
    first = call(*push, "--most", 1)
    assert first.code == 0, first.err
    assert (len(first.document["projects"]), first.document["added"]) == (1, 1)
    done = call(*push)
    assert done.code == 0, done.err
    numbers = done.document["projects"]
    assert len(numbers) == done.document["added"] + 1 > 1
    titles = [label_studio.ask("GET", f"/api/projects/{number}")["title"] for number in numbers]
    assert titles == ["spread", *(f"spread {k}" for k in range(2, len(numbers) + 1))]
    for number in numbers:
        (task,) = label_studio.ask("GET", f"/api/tasks?project={number}")["tasks"]
        assert label_studio.ask("GET", f"/api/tasks/{task['id']}")["overlap"] == 3
        body = {"result": [choice("verdict", "right")], "lead_time": 4.5}
        label_studio.ask("POST", f"/api/tasks/{task['id']}/annotations/", body)
    pulled = call("review", "pull", *to)
    assert pulled.code == 0, pulled.err
    assert pulled.document["verdicts"] == {"right": len(numbers)}
    assert "read:" in pulled.err


def _check_corpus(lake: Path) -> None:
    """Builds a corpus of what was reviewed: one box."""
    corpus = ("corpus", "reviewed", "--lake", lake, "--topology", "dojo-tray", "--json")
    built = call(*corpus, "--labels", "reviewed")
    assert built.code == 0, built.err
    assert call("verify", built.document["snapshot"]["url"]).code == 0
    asked = "SELECT DISTINCT source, x_px FROM reviewed_labels"
    labels = call("query", "--lake", lake, asked, "--json").document
    assert labels == [{"source": "review", "x_px": 32.0}]
    assert call("verify", lake).code == 0


@contextmanager
def _killed(label_studio: LabelStudio) -> Iterator[None]:
    """Kills the server, and starts it again while the block is at work."""
    label_studio.kill()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(label_studio.start)
        yield
        starting.result()


@pytest.mark.review
def test_without_a_token_or_a_project_it_is_bad_usage(
    chain: Chain, tmp_path: Path, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ("--lake", chain.lake, "--label-studio", label_studio.url)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    done = call("review", "push", "--out", tmp_path, *to)
    assert done.code == 2
    assert "LABEL_STUDIO_API_KEY" in done.err
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.token)
    done = call("review", "pull", *to, "--project", "nobody's")
    assert done.code == 2
    assert "push to it first" in done.err
    assert label_studio.token not in done.err


def test_help_lists_the_subcommands_and_their_flags() -> None:
    listed = call("review", "--help")
    assert listed.code == 0
    assert "push" in listed.out
    assert "pull" in listed.out
    assert "--address" in call("review", "push", "--help").out


def test_a_secret_in_an_address_is_refused(chain: Chain, tmp_path: Path) -> None:
    address = "https://user:secret@media.example.org/"
    done = call("review", "push", "--lake", chain.lake, "--out", tmp_path, "--address", address)
    assert done.code == 2
    assert "secret" not in done.err
