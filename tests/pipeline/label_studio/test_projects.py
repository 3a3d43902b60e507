"""Projects on Label Studio: made once, found again, and what somebody edited there is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.label_studio import projects
from pipeline.label_studio.connection import Connection, connect
from pipeline.label_studio.projects import local_storage, parts, project_id, users
from schemas.errors import FleetError
from tests.label_studio import CONFIG, EMAIL, LabelStudio
from tests.scripted_server import Answer, scripted

REASON = '<TextArea name="reason" toName="video"/></View>'


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def telling(label_studio: LabelStudio, server: Connection, told: list[str]) -> Connection:
    """A connection whose lines are in `told`."""
    del server
    return connect(label_studio.url, told.append)


def config_of(label_studio: LabelStudio, project: int) -> str:
    return str(label_studio.ask("GET", f"/api/projects/{project}/")["label_config"])


@pytest.mark.review
def test_a_project_is_made_once_and_found_on_any_page(
    server: Connection, label_studio: LabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project_id(server, "of many", CONFIG)
    for number in range(7):
        label_studio.ask("POST", "/api/projects", {"title": f"of many {number}"})
    monkeypatch.setattr(projects, "_PROJECTS_A_PAGE", 3)
    assert project_id(server, "of many", CONFIG) == first
    assert project_id(server, "OF MANY", CONFIG) != first
    assert config_of(label_studio, first) == CONFIG


@pytest.mark.review
def test_of_projects_of_one_title_the_oldest_is_meant(
    server: Connection, label_studio: LabelStudio
) -> None:
    made = [
        label_studio.ask("POST", "/api/projects", {"title": "twins", "label_config": CONFIG})["id"]
        for _ in range(2)
    ]
    assert project_id(server, "twins", CONFIG) == min(made)


@pytest.mark.review
def test_a_configuration_grows(
    telling: Connection, label_studio: LabelStudio, told: list[str]
) -> None:
    project = project_id(telling, "growing", "<View></View>")
    larger = CONFIG.replace("</View>", REASON)
    for config in (CONFIG, CONFIG.replace("<View>", '<View style="color: red">'), larger):
        assert project_id(telling, "growing", config) == project
        assert config_of(label_studio, project) == config
    assert told == []


@pytest.mark.review
def test_a_configuration_that_somebody_edited_is_kept(
    telling: Connection, label_studio: LabelStudio, told: list[str]
) -> None:
    """Label Studio would let a label go that an answer names."""
    project = project_id(telling, "edited", CONFIG)
    theirs = CONFIG.replace('<Choice value="wrong"/>', '<Choice value="other"/>')
    theirs = theirs.replace("</View>", REASON)
    label_studio.ask("PATCH", f"/api/projects/{project}/", {"label_config": theirs})
    assert project_id(telling, "edited", CONFIG) == project
    assert config_of(label_studio, project) == theirs
    (line,) = told
    assert line == (
        f"{label_studio.url}: project {project} (edited) keeps its labelling configuration, which "
        "somebody has edited: it has TextArea reason of video, other of verdict and lacks wrong "
        "of verdict"
    )


@pytest.mark.review
def test_what_label_studio_does_not_take_is_final(server: Connection) -> None:
    for title, config, words in (
        ("xy", CONFIG, "at least 3 characters"),
        ("x" * 51, CONFIG, "no more than 50 characters"),
        ("broken", "<View>", "no element found"),
    ):
        with pytest.raises(FleetError, match="400 Bad Request") as refused:
            project_id(server, title, config)
        assert words in str(refused.value)


@pytest.mark.usefixtures("quick")
def test_a_project_whose_answer_was_lost_is_not_made_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a scripted server: it is chance that Label Studio dies before it answers."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0123456789")
    none = Answer(text='{"count": 0, "results": []}')
    one = '{"count": 1, "results": [{"id": 3, "title": "mine", "label_config": "<View/>"}]}'
    with scripted(none, Answer(201, "{}", cut=True), Answer(text=one)) as script:
        assert project_id(connect(script.url), "mine", "<View/>") == 3
    assert [method for method, _, _ in script.asked] == ["GET", "POST", "GET", "GET"]


@pytest.mark.review
def test_users_have_their_addresses(server: Connection) -> None:
    assert users(server) == {1: EMAIL}


@pytest.mark.review
def test_files_of_a_connected_folder_are_served(
    server: Connection, label_studio: LabelStudio, documents: Path
) -> None:
    (documents / "clips").mkdir()
    (documents / "clips" / "a.txt").write_text("a clip")
    project = project_id(server, "with files", CONFIG)
    url = "/data/local-files/?d=clips/a.txt"
    with pytest.raises(RuntimeError, match="404"):
        label_studio.ask("GET", url)
    storage = local_storage(server, project, str(documents / "clips"))
    assert local_storage(server, project, f"{documents}/clips/") == storage
    assert label_studio.ask("GET", url) == "a clip"
    assert len(label_studio.ask("GET", f"/api/storages/localfiles?project={project}")) == 1
    for folder in (documents, documents / "nowhere", Path("/etc")):
        with pytest.raises(FleetError, match="Absolute local path"):
            local_storage(server, project, str(folder))


def test_parts_are_controls_and_labels_by_their_aliases() -> None:
    aliased = CONFIG.replace('value="wrong"', 'value="falsch" alias="wrong"')
    assert parts(aliased) == parts(CONFIG)
    assert parts("<View/>") == parts("<View></View>") == set()
    assert len(parts(CONFIG)) == 3
