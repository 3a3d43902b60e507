"""Projects of Label Studio: found by title, made, and given a labelling configuration."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any

from label_studio_sdk.label_interface.interface import LabelInterface

from pipeline.label_studio.connection import Connection

_PRESIGNED_MIN = 60
"""For how long a browser may load a video, in minutes."""

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


def numbered(title: str, number: int) -> str:
    """Returns the title of one of the projects of a title, from 1.

    >>> numbered("review", 1), numbered("review", 2)
    ('review', 'review 2')
    """
    return title if number == 1 else f"{title} {number}"


def projects(server: Connection, title: str) -> list[int]:
    """Returns the ids of the projects of a title: TITLE, TITLE 2 and on, as far as there are.

    Of several with the same title the oldest is meant.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses.
    """
    oldest: dict[str, int] = {}
    for project in _like(server, title):
        identifier = int(project["id"])
        oldest[project["title"]] = min(identifier, oldest.get(project["title"], identifier))
    titles = takewhile(oldest.__contains__, (numbered(title, number) for number in count(1)))
    return [oldest[each] for each in titles]


def share(server: Connection, project: int, percent: int, reviewers: int) -> None:
    """Has several reviewers answer a share of a project's tasks; the server chooses which.

    It chooses anew whenever tasks are added, but keeps those that have their answers.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses.
    """
    wanted = {"maximum_annotations": reviewers, "overlap_cohort_percentage": percent}
    path = f"/api/projects/{project}/"
    found = server.get(path)
    if any(found[name] != value for name, value in wanted.items()):
        change = json.dumps(wanted).encode()
        server.send("PATCH", path, lambda: change)


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
    where = {"path": posixpath.normpath(folder)}
    return _storage(server, "localfiles", project, where, {"use_blob_urls": True})


def s3_storage(server: Connection, project: int, url: str) -> int:
    """Connects a folder of an S3 store to a project; returns the connection's id.

    Label Studio gives browsers presigned addresses of its files, for which it takes the
    credentials, and the address of the store if that is not Amazon's, from its own environment.

    Args:
        server: the server.
        project: the project's id.
        url: the folder, as s3://BUCKET/PREFIX.

    Raises:
        UsageError: wrong address or token.
        FleetError: the server refuses: it cannot read the store.
    """
    bucket, _, prefix = url.removeprefix("s3://").strip("/").partition("/")
    where = {"bucket": bucket, "prefix": prefix, "presign": True}
    how = {"use_blob_urls": True, "presign_ttl": _PRESIGNED_MIN}
    return _storage(server, "s3", project, where, how)


def _storage(
    server: Connection,
    kind: str,
    project: int,
    where: Mapping[str, object],
    how: Mapping[str, object],
) -> int:
    """Returns the id of the storage that is connected there, or connects one."""
    path = f"/api/storages/{kind}"

    def connected() -> list[int]:
        return [
            int(each["id"])
            for each in server.get(path, project=project)
            if all(each[name] == value for name, value in where.items())
        ]

    wanted = {"project": project, "title": "fleetmill", **where, **how}
    made = server.send("POST", path, lambda: None if connected() else json.dumps(wanted).encode())
    return connected()[0] if made is None else int(made["id"])


def _of_title(server: Connection, title: str) -> list[dict[str, Any]]:
    """Returns the projects of exactly this title, the oldest first."""
    found = [project for project in _like(server, title) if project["title"] == title]
    return sorted(found, key=lambda project: int(project["id"]))


def _like(server: Connection, title: str) -> Iterator[dict[str, Any]]:
    """Yields the projects whose title contains this one."""
    total, seen, page = 1, 0, 1
    while seen < total:
        answer = server.get(
            "/api/projects", title=title, page=page, page_size=_PROJECTS_A_PAGE,
            include="id,title,label_config",
        )  # fmt: skip
        yield from answer["results"]
        total, seen, page = answer["count"], seen + len(answer["results"]), page + 1


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
