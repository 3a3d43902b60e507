"""Label: events to detections, boxes, tracks, ego paths, and the parts of samples.

Each event's window is decoded once, camera by camera, and only for what is due: a new model looks
without encoding, a linker that changed or a part that is written differently needs no pixels. The
parts of an event that are made together go into one pack, an ordinary tar; the table `parts` holds
the byte range of each.

An event is a task of its own, so that a run which is killed and started again decodes none again
that was finished. Reading its log's rows anew costs a hundredth of what decoding a window does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

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
from pipeline.stages.whereabouts import Whereabouts
from schemas.errors import DataError
from schemas.ids import digest
from schemas.records import Count, Event, Reject, VideoFile
from schemas.tables import TABLES
from transforms.corpora.pack import PackRange, PackWriter
from transforms.isolation import Limits, isolated
from transforms.storage import replacing
from transforms.timing import step

_SOURCES = ("logs", "videos", "frames", "signals", "joints")


RESOURCES = {"min_ram": "4GB"}
"""For a model, and for each thread some pictures and the clips of an event."""


@dataclass(frozen=True, slots=True)
class LabelTask:
    """An event of which something is due, and the files that hold rows of its log.

    `done` are the digests of what is done, `known` the files that hold the event's own rows.
    """

    key: str
    event: Event
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
        """Does what is due of the task's event, and puts its parts into a pack."""
        event, output = task.event, Output()
        due = Due.without(frozenset(task.done), self.spec, self.pixels)
        if self._excluded(task):
            output.done.append(Done(event.event_id, joined(due.digests), "filtered"))
            output.counts.append(Count(self.name, "events", filtered=1))
            return output
        labelled = self._label(task, due, output)
        if labelled is None:
            return output
        pack_uri = f"packs/{task.key}.tar"
        parts = []
        with replacing(f"{self.lake_url}/{pack_uri}") as out:
            pack = PackWriter(out)
            for part in labelled.parts:
                with step("pack"):
                    place = pack.add(event.event_id, part.members)
                parts.append(_part_row(event, part, pack_uri, place))
            pack.close()
            output.blobs[pack_uri] = out.tell()
        output.tables = dict(labelled.tables)
        if parts:
            output.tables["parts"] = pa.Table.from_pylist(parts, schema=TABLES["parts"].schema)
        output.rejects.extend(labelled.rejects)
        output.done.append(Done(event.event_id, joined(due.digests), "kept"))
        output.counts.extend(_counts(labelled))
        return output

    def _excluded(self, task: LabelTask) -> bool:
        """Whether the policy wants no footage of the event's place and time."""
        policy = self.pixels.policy
        if policy is None or not policy.exclude:
            return False
        here = Whereabouts.read(dict(task.files), task.event.log_id, task.event.span)
        return here.excluded(policy.exclude, task.event.span)

    def _label(self, task: LabelTask, due: Due, output: Output) -> Labelled | None:
        """Labels the event; if that fails, adds its rejects to `output` and returns None."""
        event = task.event
        rows = _event_rows(task, self.lake_url, self.pixels.digest)
        uri = rows.row["uri"]
        call = label_call(event, rows, Models(self.models, shared=not is_driver()), due)
        try:
            labelled = isolated(call, self.limits, f"{uri}: event {event.event_id}")
        except DataError as error:
            reject = Reject.of(error, uri=uri, stage=self.name, subject=event.event_id)
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


def _part_row(event: Event, part: Part, pack_uri: str, place: PackRange) -> dict[str, Any]:
    return {
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


def _event_rows(task: LabelTask, lake_url: str, pixels: str) -> EventRows:
    """Reads what labelling an event needs."""
    event, files = task.event, dict(task.files)
    t_ns = pc.field("t_ns")
    inside = (t_ns >= event.start_ns) & (t_ns < event.end_ns)

    def of_log(table: str, where: pc.Expression | None = None) -> pa.Table:
        return rows_of(table, files[table], [event.log_id], where)

    (row,) = of_log("logs").to_pylist()
    known = {table: rows_of(table, own, [event.event_id]) for table, own in task.known}
    return EventRows(
        row,
        video_files(of_log("videos")),
        # All frames, because a window is decoded from the keyframe before it.
        of_log("frames"),
        of_log("signals", inside),
        of_log("joints", inside),
        known,
        _clip(known, lake_url, pixels),
    )


def _clip(known: Mapping[str, pa.Table], lake_url: str, pixels: str) -> Clip | None:
    """Finds the event's clips: those that are made as now, or else any."""
    parts = known.get("parts", TABLES["parts"].empty())
    clips = parts.filter(pc.field("part") == "clip").to_pylist()
    clips.sort(key=lambda row: (row["spec_digest"] != pixels, row["spec_digest"]))
    return next(
        (Clip(pack_url(lake_url, row["pack_uri"]), row["offset"], row["length"]) for row in clips),
        None,
    )


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
    left, done_digests = sorted({*whole.digests} - done), tuple(sorted(done))
    for log_id, own in groupby(events, key=lambda event: event.log_id):
        files = _files(places, log_id)
        for event in own:
            key = digest("label", left, event.event_id)
            yield LabelTask(key, event, done_digests, files, _files(known, event.event_id))


def _files(places: Mapping[str, Places], id_: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((table, found.get(id_, ())) for table, found in places.items())
