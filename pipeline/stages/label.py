"""Label: events to detections, boxes, tracks, ego paths, and the parts of samples.

Each event's window is decoded once, camera by camera, and only for what is due: a new model looks
without encoding, a linker that changed or a part that is written differently needs no pixels. The
parts of a task's events go into one pack, an ordinary tar; the table `parts` holds the byte range
of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.event_rows import KNOWN, Clip, EventRows
from auto_label.label import Labelled, Part
from auto_label.models import ModelSpec
from auto_label.specs import Due, LabelSpec, PixelSpec
from pipeline.config import LabelConfig
from pipeline.graph.execute import Work
from pipeline.graph.runner import is_driver
from pipeline.graph.stage import Output, Stage
from pipeline.lake.ledger import Done, joined
from pipeline.lake.locate import Places, locate, locate_events, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.subjects import parts_done
from pipeline.snapshots.assembly import pack_url
from pipeline.stages.looking import Models, label_call
from pipeline.stages.models import ready_models, ready_pixels
from schemas.errors import DataError
from schemas.ids import digest
from schemas.records import Count, Event, Reject, VideoFile
from schemas.tables import TABLES
from transforms.corpora.pack import PackRange, PackWriter
from transforms.isolation import Limits, isolated
from transforms.storage import replacing
from transforms.timing import step

TASK_EVENTS = 6
"""Events of one log per task, and so per pack: some tens of MB."""

_SOURCES = ("logs", "videos", "frames", "signals", "joints")


RESOURCES = {"min_ram": "4GB"}
"""For a model, and for each thread some pictures and the clips of an event."""


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Events of one log of which the same is due, and the files that hold rows of the log.

    `done` are the digests of what is done, `known` the files that hold the events' own rows.
    """

    key: str
    log_id: str
    events: tuple[Event, ...]
    done: tuple[str, ...]
    files: tuple[tuple[str, tuple[str, ...]], ...]
    known: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class LabelStage(Stage):
    """Labels events and encodes them into packs under `lake_url`."""

    lake_url: str
    spec: LabelSpec
    pixels: PixelSpec
    models: tuple[ModelSpec, ...]
    limits: Limits
    name: str = "label"
    task: ClassVar[type] = LabelTask
    resources: ClassVar[Mapping[str, str]] = RESOURCES

    def process(self, task: LabelTask) -> Output:
        """Does what is due of the task's events, one after the other, into one pack."""
        output = Output()
        made: dict[str, list[pa.Table]] = {}
        log = _TaskRows(task, self.lake_url, self.pixels.digest)
        due = Due.without(frozenset(task.done), self.spec, self.pixels)
        pack_uri = f"packs/{task.key}.tar"
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            for event in task.events:
                labelled = self._label(event, log, due, output)
                if labelled is None:
                    continue
                for part in labelled.parts:
                    with step("pack"):
                        place = pack.add(event.event_id, part.members)
                    row = _part_row(event, part, pack_uri, place)
                    made.setdefault("parts", []).append(row)
                for table, rows in labelled.tables.items():
                    made.setdefault(table, []).append(rows)
                output.rejects.extend(labelled.rejects)
                output.done.append(Done(event.event_id, joined(due.digests), "kept"))
                output.counts.extend(_counts(labelled))
            pack.close()
            output.blobs[pack_uri] = out.tell()
        output.tables = {table: pa.concat_tables(rows) for table, rows in made.items()}
        return output

    def _label(self, event: Event, log: _TaskRows, due: Due, output: Output) -> Labelled | None:
        """Labels one event; if that fails, adds its rejects to `output` and returns None."""
        models = Models(self.models, shared=not is_driver())
        call = label_call(event, log.of(event), models, due)
        try:
            labelled = isolated(call, self.limits, f"{log.uri}: event {event.event_id}")
        except DataError as error:
            reject = Reject.of(error, uri=log.uri, stage=self.name, subject=event.event_id)
            self._reject(event, due, (reject,), output)
            return None
        readable = all(reject.final for reject in labelled.rejects)
        if labelled.rejects and not (labelled.cameras and readable):
            self._reject(event, due, labelled.rejects, output)
            return None
        return labelled

    def _reject(self, event: Event, due: Due, rejects: Sequence[Reject], output: Output) -> None:
        """Rejects an event; if the environment is at fault, the next run tries it again."""
        output.rejects.extend(rejects)
        if all(reject.final for reject in rejects):
            output.done.append(Done(event.event_id, joined(due.digests), "rejected"))
        output.counts.append(Count(self.name, "events", rejected=1))


def _counts(labelled: Labelled) -> Iterator[Count]:
    yield Count("label", "events", kept=1)
    yield Count("label", "frames", kept=labelled.decoded, filtered=labelled.missing)
    yield Count("label", "parts", kept=len(labelled.parts))
    if "boxes" in labelled.tables:
        yield Count("label", "boxes", kept=labelled.tables["boxes"].num_rows)


def _part_row(event: Event, part: Part, pack_uri: str, place: PackRange) -> pa.Table:
    row = {
        "event_id": event.event_id,
        "log_id": event.log_id,
        "drive_id": event.drive_id,
        "part": part.part,
        "spec_digest": part.spec_digest,
        "source_digest": part.source_digest,
        "pack_uri": pack_uri,
        "offset": place.offset,
        "length": place.length,
        "sha256": place.sha256,
        "duration_ns": event.span.duration_ns,
        "cameras": list(part.cameras),
        "privacy": part.privacy,
    }
    return pa.Table.from_pylist([row], schema=TABLES["parts"].schema)


class _TaskRows:
    """The rows of a task's log and events, read once per task."""

    def __init__(self, task: LabelTask, lake_url: str, pixels: str) -> None:
        self._lake_url, self._pixels = lake_url, pixels
        self._log_ids = [task.log_id]
        self._files = dict(task.files)
        (self.row,) = self._read("logs").to_pylist()
        self.uri: str = self.row["uri"]
        self.videos = video_files(self._read("videos"))
        # All frames, because a window is decoded from the keyframe before it.
        self.frames = self._read("frames")
        t_ns = pc.field("t_ns")
        inside = (t_ns >= min(event.start_ns for event in task.events)) & (
            t_ns < max(event.end_ns for event in task.events)
        )
        self._signals, self._joints = self._read("signals", inside), self._read("joints", inside)
        ids = [event.event_id for event in task.events]
        self._known = {table: rows_of(table, files, ids) for table, files in task.known}

    def of(self, event: Event) -> EventRows:
        """Returns what labelling an event needs."""
        own = pc.field("event_id") == event.event_id
        known = {table: rows.filter(own) for table, rows in self._known.items()}
        return EventRows(
            self.row,
            self.videos,
            self.frames,
            _during(self._signals, event),
            _during(self._joints, event),
            known,
            self._clip(known),
        )

    def _clip(self, known: Mapping[str, pa.Table]) -> Clip | None:
        """Finds the event's clips: those that are made as now, or else any."""
        parts = known.get("parts", TABLES["parts"].empty())
        clips = parts.filter(pc.field("part") == "clip").to_pylist()
        clips.sort(key=lambda row: (row["spec_digest"] != self._pixels, row["spec_digest"]))
        return next(
            (
                Clip(pack_url(self._lake_url, row["pack_uri"]), row["offset"], row["length"])
                for row in clips
            ),
            None,
        )

    def _read(self, table: str, where: pc.Expression | None = None) -> pa.Table:
        return rows_of(table, self._files[table], self._log_ids, where)


def _during(rows: pa.Table, event: Event) -> pa.Table:
    t_ns = pc.field("t_ns")
    return rows.filter((t_ns >= event.start_ns) & (t_ns < event.end_ns))


def video_files(videos: pa.Table) -> Mapping[str, Sequence[VideoFile]]:
    """Groups rows of `videos` by camera."""
    cameras: dict[str, list[VideoFile]] = {}
    for row in videos.to_pylist():
        fields = {name: row[name] for name in VideoFile.__dataclass_fields__}
        cameras.setdefault(row["camera"], []).append(VideoFile(**fields))
    return cameras


def plan_label(lake: Lake, config: LabelConfig) -> Work:
    """Finds the events of which something is due.

    Raises:
        UsageError: a model or policy is unknown, or the weights of a named model cannot be
            fetched.
        FleetError: what a privacy policy needs cannot be had.
    """
    models, notes = ready_models(config.models, config.models_dir)
    pixels, hiding, more = ready_pixels(config)
    spec = LabelSpec(config.fps, tuple(model.identity for model in models))
    whole = Due.whole(spec, pixels)
    found = parts_done(lake, "label", "SELECT event_id AS subject FROM events", whole.digests)
    known_rows = set(KNOWN) & lake.versions.keys()
    tasks: list[LabelTask] = []
    for group in found.due:
        events = _events(lake, group.subjects)
        log_ids = sorted({event.log_id for event in events})
        places = locate(lake, _SOURCES, log_ids)
        # Of an event of which nothing is done there are no rows.
        known = locate_events(lake, known_rows if group.done else (), group.subjects)
        tasks += _tasks(events, group.done, whole, places, known)
    return Work(
        stage=LabelStage(
            lake.url, spec, pixels, tuple(dict.fromkeys([*models, *hiding])), config.limits
        ),
        tasks=tasks,
        expected={("label", "events"): found.total},
        known=(found.known("label", "events"),),
        notes=(*notes, *more),
    )


def _events(lake: Lake, event_ids: Sequence[str]) -> list[Event]:
    wanted = pc.field("event_id").isin(pa.array(event_ids, pa.string()))
    rows = lake.scan("events", TABLES["events"].schema.names, wanted)
    events = [Event(**row) for row in rows.to_pylist()]
    return sorted(events, key=lambda e: (e.log_id, e.start_ns, e.event_id))


def _tasks(
    events: Sequence[Event],
    done: frozenset[str],
    whole: Due,
    places: Mapping[str, Places],
    known: Mapping[str, Places],
) -> Iterator[LabelTask]:
    by_log: dict[str, list[Event]] = {}
    for event in events:
        by_log.setdefault(event.log_id, []).append(event)
    for log_id, own in by_log.items():
        files = tuple((table, found.get(log_id, ())) for table, found in places.items())
        for first in range(0, len(own), TASK_EVENTS):
            batch = tuple(own[first : first + TASK_EVENTS])
            ids = [event.event_id for event in batch]
            own_files = tuple(
                (table, tuple(sorted({file for one in ids for file in found.get(one, ())})))
                for table, found in known.items()
            )
            left = sorted({*whole.digests} - done)
            yield LabelTask(
                digest("label", left, ids), log_id, batch, tuple(sorted(done)), files, own_files
            )
