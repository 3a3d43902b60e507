"""Label: events to boxes, tracks, ego paths, and samples encoded once into packs.

Each event's window is decoded once, camera by camera. The samples of a task go into one pack,
an ordinary tar; the table `samples` holds the byte range of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.label import Labelled, LabelSpec
from auto_label.models import ModelSpec
from pipeline.config import LabelConfig
from pipeline.graph.execute import Work
from pipeline.graph.runner import is_driver
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done
from pipeline.lake.locate import Places, locate, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import standing
from pipeline.stages.looking import LogRows, Models, label_call
from pipeline.stages.models import ready_models
from schemas.errors import DataError
from schemas.ids import digest
from schemas.records import Count, Event, Reject, VideoFile
from schemas.tables import TABLES
from transforms.corpora import CORPORA, Sample
from transforms.corpora.pack import PackRange, PackWriter
from transforms.isolation import Limits, isolated
from transforms.storage import replacing
from transforms.timing import step

TASK_EVENTS = 6
"""Events of one log per task, and so per pack: some tens of MB."""

_SOURCES = ("logs", "videos", "frames", "signals", "joints")
_LABELS = ("boxes", "tracks", "ego_path")


RESOURCES = {"min_ram": "4GB"}
"""For a model, and for each thread the pictures of one label interval."""


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Events of one log, and the files that hold the log's rows."""

    key: str
    log_id: str
    events: tuple[Event, ...]
    files: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class LabelStage(Stage):
    """Labels events and encodes them into packs under `lake_url`."""

    lake_url: str
    spec: LabelSpec
    models: tuple[ModelSpec, ...]
    limits: Limits
    name: str = "label"
    task: ClassVar[type] = LabelTask
    resources: ClassVar[Mapping[str, str]] = RESOURCES

    def process(self, task: LabelTask) -> Output:
        """Labels the task's events one after the other into one pack."""
        output = Output()
        parts: dict[str, list[pa.Table]] = {}
        log = _TaskRows(task)
        corpus = CORPORA.load("webdataset")()
        pack_uri = f"packs/{task.key}.tar"
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            for event in task.events:
                made = self._label(event, log, output)
                if made is None:
                    continue
                labelled, sample = made
                with step("pack"):
                    place = pack.add(event.event_id, corpus.members(sample))
                parts.setdefault("samples", []).append(
                    self._sample_row(event, labelled, pack_uri, place)
                )
                for table in _LABELS:
                    parts.setdefault(table, []).append(getattr(labelled, table))
                output.rejects.extend(labelled.rejects)
                output.done.append(Done(event.event_id, self.spec.digest, "kept"))
                output.counts.append(Count(self.name, "events", kept=1))
                output.counts.append(Count(self.name, "boxes", kept=labelled.boxes.num_rows))
            pack.close()
            output.blobs[pack_uri] = out.tell()
        output.tables = {table: pa.concat_tables(rows) for table, rows in parts.items()}
        return output

    def _label(
        self, event: Event, log: _TaskRows, output: Output
    ) -> tuple[Labelled, Sample] | None:
        """Labels one event; if that fails, adds its rejects to `output` and returns None."""
        models = Models(self.models, shared=not is_driver())
        call = label_call(event, log.of(event), models, self.spec, self.limits.memory_bytes)
        try:
            labelled, sample = isolated(call, self.limits, f"{log.uri}: event {event.event_id}")
        except DataError as error:
            reject = Reject.of(error, uri=log.uri, stage=self.name, subject=event.event_id)
            self._reject(event, (reject,), output)
            return None
        readable = all(reject.final for reject in labelled.rejects)
        if labelled.rejects and not (labelled.cameras and readable):
            self._reject(event, labelled.rejects, output)
            return None
        return labelled, sample

    def _reject(self, event: Event, rejects: Sequence[Reject], output: Output) -> None:
        """Rejects an event; if the environment is at fault, the next run tries it again."""
        output.rejects.extend(rejects)
        if all(reject.final for reject in rejects):
            output.done.append(Done(event.event_id, self.spec.digest, "rejected"))
        output.counts.append(Count(self.name, "events", rejected=1))

    def _sample_row(
        self, event: Event, labelled: Labelled, pack_uri: str, place: PackRange
    ) -> pa.Table:
        row = {
            "event_id": event.event_id,
            "log_id": event.log_id,
            "drive_id": event.drive_id,
            "payload": "clip",
            "pack_uri": pack_uri,
            "offset": place.offset,
            "length": place.length,
            "sha256": place.sha256,
            "spec_digest": self.spec.digest,
            "duration_ns": event.span.duration_ns,
            "cameras": list(labelled.cameras),
            "privacy": self.spec.privacy,
        }
        return pa.Table.from_pylist([row], schema=TABLES["samples"].schema)


class _TaskRows:
    """The rows of a task's log, read once per task."""

    def __init__(self, task: LabelTask) -> None:
        self._log_ids = [task.log_id]
        self._files = dict(task.files)
        (self.row,) = self._read("logs").to_pylist()
        self.uri: str = self.row["uri"]
        self.videos = video_files(self._read("videos"))
        # All frames, because a window is decoded from the keyframe before it.
        self.frames = self._read("frames")

    def of(self, event: Event) -> LogRows:
        """Returns what labelling an event needs."""
        signals, joints = self._during("signals", event), self._during("joints", event)
        return LogRows(self.row, self.videos, self.frames, signals, joints)

    def _during(self, table: str, event: Event) -> pa.Table:
        t_ns = pc.field("t_ns")
        return self._read(table, (t_ns >= event.start_ns) & (t_ns < event.end_ns))

    def _read(self, table: str, where: pc.Expression | None = None) -> pa.Table:
        return rows_of(table, self._files[table], self._log_ids, where)


def video_files(videos: pa.Table) -> Mapping[str, Sequence[VideoFile]]:
    """Groups rows of `videos` by camera."""
    cameras: dict[str, list[VideoFile]] = {}
    for row in videos.to_pylist():
        fields = {name: row[name] for name in VideoFile.__dataclass_fields__}
        cameras.setdefault(row["camera"], []).append(VideoFile(**fields))
    return cameras


def plan_label(lake: Lake, config: LabelConfig) -> Work:
    """Finds the events that have no sample of this label specification.

    Raises:
        UsageError: a model is unknown, or the weights of a named one cannot be fetched.
    """
    models, notes = ready_models(config.models, config.models_dir)
    spec = LabelSpec(
        label_fps=config.fps,
        privacy=config.privacy,
        crf=config.crf,
        models=tuple(model.identity for model in models),
    )
    wanted = "SELECT event_id AS subject, '' AS stage_digest FROM events"
    found = standing(lake, "label", wanted, spec.digest)
    fresh: dict[str, list[Event]] = {}
    events = _events(lake, found.new)
    for event in sorted(events, key=lambda e: (e.log_id, e.start_ns, e.event_id)):
        fresh.setdefault(event.log_id, []).append(event)
    places = locate(lake, _SOURCES, list(fresh))
    return Work(
        stage=LabelStage(lake.url, spec, models, config.limits),
        tasks=list(_tasks(fresh, spec, places)),
        expected={("label", "events"): found.total},
        known=(found.known("label", "events"),),
        notes=notes,
    )


def _events(lake: Lake, event_ids: Sequence[str]) -> list[Event]:
    if not event_ids:
        return []
    wanted = pc.field("event_id").isin(pa.array(event_ids, pa.string()))
    rows = lake.scan("events", TABLES["events"].schema.names, wanted)
    return [Event(**row) for row in rows.to_pylist()]


def _tasks(
    fresh: Mapping[str, Sequence[Event]], spec: LabelSpec, places: Mapping[str, Places]
) -> Iterator[LabelTask]:
    for log_id, events in fresh.items():
        files = tuple((table, found.get(log_id, ())) for table, found in places.items())
        for first in range(0, len(events), TASK_EVENTS):
            batch = tuple(events[first : first + TASK_EVENTS])
            key = digest("label", spec.digest, [event.event_id for event in batch])
            yield LabelTask(key, log_id, batch, files)
