"""Declares `fleetmill review push`: what labellers look at, in a folder or on a server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from auto_label.review.config import labelling_config
from auto_label.review.tasks import KEY
from jobs.job import Job, StageRun
from jobs.options import Flag
from jobs.reporting import Reporter
from pipeline.config import ReviewPullConfig, ReviewPushConfig
from pipeline.graph.balance import JobReport
from pipeline.label_studio.connection import connect
from pipeline.label_studio.projects import (
    local_storage,
    numbered,
    project_id,
    projects,
    s3_storage,
    share,
)
from pipeline.label_studio.tasks import import_tasks
from pipeline.lake.tables import Lake
from pipeline.stages.review_choice import ordered_tasks
from pipeline.stages.review_push import LOCAL_FILES, plan_review_push
from transforms.storage import get, names, normal, put

_IMPORT = re.compile(r"tasks-[0-9]+\.json")
"""The names of files of tasks for import."""

_LABELS = re.compile(rb'"labels"\s*:\s*(\[(?:\s*"(?:[^"\\]|\\.)*"\s*,?)*\s*\])')
"""The list of classes of a region, in the JSON of a task."""

_FILE_TASKS, _FILE_BYTES = 250, 50_000_000
"""The most that a file of tasks for import has: Label Studio refuses larger ones."""


def _push_result(reporter: Reporter, _: Lake, reports: Sequence[JobReport]) -> dict[str, Any]:
    """Sends the tasks to the server, or writes files for import, and says what to do with them."""
    detail = reports[-1].detail
    folder = detail["folder"]
    if detail["label_studio"]:
        return send(reporter, **detail)
    written = write_imports(folder)
    count = sum(written.values())
    reporter.text(f"tasks to import   {count}")
    if count:
        reporter.text(f"import            {', '.join(written)} of {folder}")
        reporter.text(f"configuration     {folder}/config.xml")
    return {"folder": folder, "imports": written}


def send(
    reporter: Reporter,
    *,
    folder: str,
    address: str,
    label_studio: str,
    project: str,
    project_tasks: int,
    shared: float,
    reviewers: int,
) -> dict[str, Any]:
    """Sends the tasks of a folder to the projects of a title, those that these do not have.

    Returns:
        The ids of the projects, and the number of tasks that were added.
    """
    keys = ordered_tasks(folder)

    def read(key: str) -> bytes:
        return get(f"{folder}/{key}.json")

    with closing(connect(label_studio, reporter.note)) as server:
        config = labelling_config(_classes(map(read, keys)))

        def opened(number: int) -> int:
            """Finds or makes the project of a number, from 1, which is served the proxies."""
            found = project_id(server, numbered(project, number), config)
            if address.startswith(LOCAL_FILES):
                local_storage(server, found, normal(folder))
            elif address.startswith("s3://"):
                s3_storage(server, found, address)
            return found

        numbers = [opened(number + 1) for number in range(max(1, len(projects(server, project))))]
        reporter.start("send", len(keys))
        try:
            added = import_tasks(
                server,
                keys,
                read,
                projects=numbers,
                further=lambda: opened(len(numbers) + 1),
                most=project_tasks,
                on_progress=reporter.progress,
            )
        finally:
            reporter.stop()
        if shared:
            for number in numbers:
                share(server, number, round(100 * shared), reviewers)
    reporter.text(f"tasks added   {added}")
    for number in numbers:
        reporter.text(f"project       {label_studio}/projects/{number}")
    return {"folder": folder, "projects": numbers, "added": added}


def write_imports(folder: str) -> dict[str, int]:
    """Writes the tasks of a folder that are in no file for import yet to new ones.

    Returns:
        The number of tasks by the name of the file: `tasks-0001.json` and on.
    """
    keys = ordered_tasks(folder)
    imports = [name for name in names(folder) if _IMPORT.fullmatch(name)]
    known = {
        str(task["data"][KEY]) for name in imports for task in json.loads(get(f"{folder}/{name}"))
    }
    written: dict[str, int] = {}
    for tasks in _batches(get(f"{folder}/{key}.json") for key in keys if key not in known):
        name = f"tasks-{len(imports) + len(written) + 1:04d}.json"
        put(f"{folder}/{name}", b"[" + b",\n".join(tasks) + b"]\n")
        written[name] = len(tasks)
    if written:
        classes = _classes(get(f"{folder}/{key}.json") for key in keys)
        put(f"{folder}/config.xml", labelling_config(classes).encode())
    return written


def _batches(tasks: Iterator[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for task in tasks:
        large = sum(map(len, batch)) + len(task) > _FILE_BYTES
        if batch and (large or len(batch) == _FILE_TASKS):
            yield batch
            batch = []
        batch.append(task)
    if batch:
        yield batch


def _classes(tasks: Iterable[bytes]) -> set[str]:
    """Returns the classes of the boxes that are shown.

    Without reading the tasks as JSON, which would take as long as a third of sending them.
    """
    lists = {labels for task in tasks for labels in _LABELS.findall(task)}
    return {name for labels in lists for name in json.loads(labels)}


SERVER = (Flag("--label-studio", "URL"), Flag("--project", "TITLE"))
"""The flags that name a project of a Label Studio."""


def check_server(config: ReviewPushConfig | ReviewPullConfig) -> tuple[str, ...]:
    """Checks that there is a token, if there is a server."""
    if config.label_studio is not None:
        connect(config.label_studio).close()
    return ()


PUSH = Job(
    name="review_push",
    help="""Make what labellers look at: proxies, tasks and a labelling configuration.

    Of each camera of an event there is a task with its clip, covered as the privacy policy says,
    its signals in sync below it, and our boxes as a prediction. Label Studio serves the proxies
    from the folder: start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and the folder
    around DIR as LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT, paste config.xml into a project's
    labelling interface, add DIR as a local source storage, and import the files tasks-*.json.
    What is in the folder is not made again, and a file for import holds what is new alone.

    With --label-studio the project is made and gets the tasks that it does not have. The token is
    in LABEL_STUDIO_API_KEY.

        fleetmill review push --lake L --out media/review
    """,
    config=ReviewPushConfig,
    flags=(
        Flag("--out", "DIR"),
        Flag("--address", "URL"),
        Flag("--privacy", "NAME"),
        Flag("--width", "PX"),
        Flag("--layout"),
        Flag("--order"),
        Flag("--quota", "[TRIGGER=]N"),
        Flag("--most", "N"),
        Flag("--control", "F"),
        Flag("--lead", "NAME"),
        *SERVER,
        Flag("--project-tasks", "N"),
        Flag("--shared", "F"),
        Flag("--reviewers", "N"),
    ),
    check=check_server,
    stages=(StageRun("review_push", plan_review_push),),
    show=_push_result,
)
review_push = PUSH.command()
