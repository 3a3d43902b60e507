"""Review pull: answers of labellers to the table `verdicts`.

An answer is one state of one annotation: if the reviewer changes it, the next pull adds the new
state, and the old one stays. The ledger knows each state, so that a pull adds what is new alone,
also beside another pull. Originals are never changed: `verdicts` lies over the labels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.answers import TaskData, answer_subject, answers
from auto_label.review.tasks import KEY
from pipeline.config import ReviewPullConfig
from pipeline.graph.execute import UNWATCHED, Watch, Work
from pipeline.graph.journal import scratch_url
from pipeline.graph.stage import Output, Stage
from pipeline.label_studio.connection import connect
from pipeline.label_studio.projects import projects
from pipeline.label_studio.tasks import annotated, count_tasks
from pipeline.lake.ledger import Done
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import standing
from schemas.errors import CorruptError, DataError, UsageError, excerpt, one_line
from schemas.ids import digest
from schemas.records import Count, Reject
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from transforms.storage import get, put

VERSION = 1
"""Increases when the same answer gives other rows."""

STAGE = "review_pull"
_DIGEST = digest("answer", VERSION)
_MARGIN_S = 86_400
_PAGE = 50
"""Tasks of Label Studio whose answers one of our tasks reads."""


@dataclass(frozen=True, slots=True)
class PullTask:
    """A file of tasks of Label Studio, each with the annotations that are new."""

    key: str
    page: str


@dataclass(slots=True)
class PullStage(Stage):
    """Reads answers; `uri` is where they are from, for rejects."""

    uri: str
    name: str = STAGE
    task: ClassVar[type] = PullTask
    once: ClassVar[bool] = True

    def process(self, task: PullTask) -> Output:
        """Turns the annotations of a page into rows."""
        output, rows = Output(), []
        for one in json.loads(get(task.page)):
            data = TaskData.of(one)  # the plan has checked it
            for annotation in one["annotations"]:
                subject = answer_subject(annotation)
                try:
                    rows += answers(data, annotation)
                    output.done.append(Done(subject, _DIGEST, "kept"))
                    output.counts.append(Count(self.name, "answers", kept=1))
                except DataError as error:
                    reject = Reject.of(error, uri=self.uri, stage=self.name, subject=subject)
                    output.rejects.append(reject)
                    output.done.append(Done(subject, _DIGEST, "rejected"))
                    output.counts.append(Count(self.name, "answers", rejected=1))
        if rows:
            made = pa.Table.from_pylist(rows, schema=TABLES["verdicts"].schema)
            output.tables["verdicts"] = TABLES["verdicts"].conform(made)
        return output


@dataclass(frozen=True, slots=True)
class _Found:
    """The annotations of an export by subject, and what cannot be one."""

    answers: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    rejects: tuple[Reject, ...]
    foreign: int


def plan_review_pull(lake: Lake, config: ReviewPullConfig, watch: Watch = UNWATCHED) -> Work:
    """Finds the answers that are not in the lake yet.

    Raises:
        UsageError: the file cannot be read, or is no export of Label Studio; the address or the
            token of the server is wrong.
        FleetError: the server refuses.
    """
    uri = config.input or f"{config.label_studio}, project {config.project}"
    exported = _tasks(config.input) if config.input else list(_answered(lake, config, watch))
    found = _read(lake, uri, exported)
    wanted = pa.table(
        {
            "subject": pa.array(sorted(found.answers), pa.string()),
            "stage_digest": pa.repeat(_DIGEST, len(found.answers)),
        }
    )
    standing_ = standing(lake, STAGE, wanted)
    pages = list(_pages(found, standing_.new))
    scratch = scratch_url(lake.url, config.model_dump(mode="json"), list(standing_.new))
    tasks = []
    for page in pages:
        content = json.dumps(page, sort_keys=True).encode("ascii")
        key = digest("answers", content.decode("ascii"))
        put(f"{scratch}/{key}.json", content)
        tasks.append(PullTask(key, f"{scratch}/{key}.json"))
    notes: tuple[str, ...] = ()
    if found.foreign:
        notes = (f"{found.foreign} tasks of {uri} are not fleetmill's, and left out",)
    known = [standing_.known(STAGE, "answers")]
    if found.rejects:
        known.append(Count(STAGE, "answers", rejected=len(found.rejects)))
    return Work(
        stage=PullStage(uri),
        tasks=tasks,
        expected={(STAGE, "answers"): standing_.total + len(found.rejects)},
        known=tuple(known),
        rejects=found.rejects,
        notes=notes,
        scratch=(scratch,) if tasks else (),
    )


def _answered(lake: Lake, config: ReviewPullConfig, watch: Watch) -> Iterator[Mapping[str, Any]]:
    """Yields the tasks that were worked on since the last pull, as exports have them."""
    assert config.label_studio is not None
    since = _since(lake, config)
    with closing(connect(config.label_studio, watch.note)) as server:
        found = projects(server, config.project)
        if not found:
            raise UsageError(f"{server.url}: has no project {config.project!r}; push to it first")
        watch.start("read", sum(count_tasks(server, project, since) for project in found))
        done = count(1)

        def told() -> None:
            watch.progress(next(done))

        for task in chain.from_iterable(
            annotated(server, project, since, told) for project in found
        ):
            yield {
                "id": task.identifier,
                "data": task.data,
                "annotations": [
                    {
                        "id": one.identifier,
                        "completed_by": {"email": one.by or "unknown"},
                        "result": one.result,
                        "was_cancelled": one.was_cancelled,
                        "lead_time": one.lead_time_s,
                        "created_at": one.created_at,
                        "updated_at": one.updated_at,
                    }
                    for one in task.annotations
                ],
            }


def _since(lake: Lake, config: ReviewPullConfig) -> str | None:
    """Returns from when answers may be new: some time before the last pull of the project.

    What comes twice is known by the ledger, so the margin is for clocks that differ, and for
    answers that were stored while they were read.
    """
    rows = lake.scan("runs", ["config", "started_ns"], pc.field("job") == STAGE).to_pylist()
    wanted = (config.label_studio, config.project)
    started = [
        row["started_ns"]
        for row in rows
        if (said := json.loads(row["config"]))
        and (said.get("label_studio"), said.get("project")) == wanted
    ]
    if not started:
        return None
    return datetime.fromtimestamp(max(started) // NS_PER_S - _MARGIN_S, UTC).isoformat()


def _tasks(uri: str) -> list[Any]:
    """Reads an export: a list of tasks with their annotations."""
    try:
        exported = json.loads(get(uri))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"--input {uri}: cannot be read: {one_line(error)}; export the project as JSON"
        ) from error
    if not isinstance(exported, list):
        raise UsageError(
            f"--input {uri}: is {type(exported).__name__}, not a list of tasks; export the "
            'project as "JSON"'
        )
    return exported


def _read(lake: Lake, uri: str, exported: Sequence[Any]) -> _Found:
    ours = [one for one in exported if _is_ours(one) and one.get("annotations")]
    foreign = sum(not _is_ours(one) for one in exported)
    answers: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    rejects: list[Reject] = []
    cameras = _cameras(lake, ours)
    for one in ours:
        annotations: Any = one["annotations"]
        for annotation in annotations if isinstance(annotations, list) else [annotations]:
            try:
                data = TaskData.of(one)
                _check_camera(data, cameras)
                answers[answer_subject(annotation)] = (one, annotation)
            except CorruptError as error:
                told = CorruptError(f"{uri}: task {excerpt(one.get('id'))}: {error}")
                subject = digest("answer", json.dumps([one["data"], annotation], sort_keys=True))
                rejects.append(Reject.of(told, uri=uri, stage=STAGE, subject=subject))
    return _Found(answers, tuple(rejects), foreign)


def _is_ours(task: Any) -> bool:
    return isinstance(task, dict) and isinstance(task.get("data"), dict) and KEY in task["data"]


_Camera = tuple[str, str, str, str, int, int]
"""Event, log, drive, camera, and the width and height of its pictures."""


def _cameras(lake: Lake, tasks: Sequence[Mapping[str, Any]]) -> set[_Camera]:
    """Returns the cameras of the events that tasks name."""
    named = {str(one["data"].get("event_id")) for one in tasks}
    ids = pa.array(sorted(one for one in named if one.isascii()), pa.string())
    columns = ["event_id", "log_id", "drive_id"]
    events = lake.scan("events", columns, pc.field("event_id").isin(ids))
    logs = pc.field("log_id").isin(pc.unique(events["log_id"]))
    videos = lake.scan("videos", ["log_id", "camera", "width", "height"], logs)
    found = events.join(videos, "log_id", join_type="inner")
    names = [*columns, "camera", "width", "height"]
    return set(zip(*(found[name].to_pylist() for name in names), strict=True))


def _check_camera(data: TaskData, cameras: set[_Camera]) -> None:
    owner = (data.event_id, data.log_id, data.drive_id)
    shown = {(*owner, view.camera, view.width_px, view.height_px) for view in data.cameras}
    if not shown <= cameras:
        raise CorruptError(
            f"event {excerpt(data.event_id)} with this camera and size of pictures is not in the "
            "lake; pull answers into the lake that their tasks are of"
        )


def _pages(found: _Found, new: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yields tasks with their new annotations, some at a time, in a fixed order."""
    by_task: dict[str, dict[str, Any]] = {}
    for subject in new:
        task, annotation = found.answers[subject]
        key = digest(str(task["data"][KEY]), str(task.get("id")))
        kept = {name: task[name] for name in ("id", "data") if name in task}
        by_task.setdefault(key, {**kept, "annotations": []})["annotations"].append(annotation)
    tasks = [by_task[key] for key in sorted(by_task)]
    for start in range(0, len(tasks), _PAGE):
        yield tasks[start : start + _PAGE]
