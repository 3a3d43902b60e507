"""Projects of Label Studio: found by title, made, and given a labelling configuration."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from label_studio_sdk.label_interface.interface import LabelInterface

from pipeline.label_studio.connection import Connection
from schemas.errors import UsageError

_PROJECTS_A_PAGE = 100
"""The most that the server returns."""


def project_id(server: Connection, title: str, config: str) -> int:
    """Finds the project of a title, or makes it, and returns its id.

    A project that is there gets the configuration, unless its own has a control or a label that
    this one lacks: somebody added it, and answers with it would lose their meaning. The server
    itself refuses only a control that goes, and lets a label go that answers name.

    Args:
        server: the server; it is told when a project keeps its configuration.
        title: 3 to 50 characters; of several projects the oldest is meant.
        config: the labelling configuration, as XML.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses, such as a configuration that is not valid.
    """
    made = server.send(
        "POST",
        "/api/projects",
        lambda: (
            None
            if _of_title(server, title)
            else json.dumps({"title": title, "label_config": config}).encode()
        ),
    )
    if made is not None:
        return int(made["id"])
    found = _of_title(server, title)[0]
    identifier = int(found["id"])
    theirs = found["label_config"] or "<View/>"
    if theirs == config:
        return identifier
    added, missing = parts(theirs) - parts(config), parts(config) - parts(theirs)
    if added:
        lacks = f" and lacks {_listed(missing)}" if missing else ""
        server.tell(
            f"{server.url}: project {identifier} ({title}) keeps its labelling configuration, "
            f"which somebody has edited: it has {_listed(added)}{lacks}"
        )
        return identifier
    change = json.dumps({"label_config": config}).encode()
    server.send("PATCH", f"/api/projects/{identifier}/", lambda: change)
    return identifier


def find_project(server: Connection, title: str) -> int:
    """Returns the id of the project of a title; of several the oldest is meant.

    Raises:
        UsageError: there is none; wrong address or token.
        FleetError: the server refuses.
    """
    found = _of_title(server, title)
    if not found:
        raise UsageError(f"{server.url}: has no project {title!r}; push to it first")
    return int(found[0]["id"])


def parts(config: str) -> set[str]:
    """Returns what answers refer to: the controls of a labelling configuration and their labels.

    >>> sorted(parts('<View><Video name="v" value="$v"/><Choices name="c" toName="v">'
    ...              '<Choice value="a"/></Choices></View>'))
    ['Choices c of v', 'a of c']
    """
    found = set()
    for control in LabelInterface(config).controls:
        found.add(f"{control.tag} {control.name} of {','.join(control.to_name)}")
        found |= {f"{label} of {control.name}" for label in control.labels}
    return found


def users(server: Connection) -> dict[int, str]:
    """Returns the e-mail address of each user of the organization, or the name, by id.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses.
    """
    return {
        int(user["id"]): user["email"] or user["username"] for user in server.get("/api/users/")
    }


def local_storage(server: Connection, project: int, folder: str) -> int:
    """Connects a folder to a project, so that its tasks may refer to the files; returns its id.

    Label Studio serves `/data/local-files/?d=PATH` only to those who see a project that a folder
    above the file is connected to. A folder that is connected already stays as it is.

    Args:
        server: the server.
        project: the project's id.
        folder: the path of the folder on the server.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses: it has no such folder, or does not serve its files.
    """
    path = posixpath.normpath(folder)

    def connected() -> list[int]:
        storages = server.get("/api/storages/localfiles", project=project)
        return [int(each["id"]) for each in storages if each["path"] == path]

    wanted = {"project": project, "path": path, "title": "fleetmill", "use_blob_urls": True}
    made = server.send(
        "POST",
        "/api/storages/localfiles",
        lambda: None if connected() else json.dumps(wanted).encode(),
    )
    return connected()[0] if made is None else int(made["id"])


def _of_title(server: Connection, title: str) -> list[dict[str, Any]]:
    """Returns the projects of exactly this title, the oldest first."""
    found = [project for project in _like(server, title) if project["title"] == title]
    return sorted(found, key=lambda project: int(project["id"]))


def _like(server: Connection, title: str) -> Iterator[dict[str, Any]]:
    """Yields the projects whose title contains this one."""
    count, seen, page = 1, 0, 1
    while seen < count:
        answer = server.get(
            "/api/projects", title=title, page=page, page_size=_PROJECTS_A_PAGE,
            include="id,title,label_config",
        )  # fmt: skip
        yield from answer["results"]
        count, seen, page = answer["count"], seen + len(answer["results"]), page + 1


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
