"""Review push: makes what labellers look at, a proxy and a task for each camera of an event.

    <media>/<task key>.mp4     the proxy: the clip as it is, blurred, small, of a constant rate
    <media>/<task key>.json    the task as Label Studio imports it; `data.frames_ns` has the time of
                               each frame of the proxy
    <media>/order.txt          the keys of the tasks, in the order in which labellers get them

The task is written last, so a proxy without one is made again. A task that is there stays as it is,
also when a newer model has labelled its event since: somebody may be at work on it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auto_label.review.grid import Layout, lay_out, tile
from auto_label.review.proxy import Proxy, ProxySpec, make_proxy
from auto_label.review.tasks import KEY, View, review_task, task_key
from auto_label.specs import LabelSpec
from auto_label.steps import Steps
from pipeline.config import ReviewPushConfig
from pipeline.graph.execute import Work
from pipeline.graph.stage import Output, Stage
from pipeline.lake.locate import Places, locate, locate_events, rows_of
from pipeline.lake.tables import Lake
from pipeline.queries.catalog import read_rows
from pipeline.snapshots.assembly import pack_url
from pipeline.stages.review_choice import ORDER, choose, made_tasks, read_order, shown_in
from pipeline.stages.selection import latest_samples
from schemas.arrays import IntArray
from schemas.errors import DataError
from schemas.ids import canonical, digest
from schemas.records import Count, Event, Reject
from transforms.corpora.pack import read_sample
from transforms.corpora.webdataset import member_name, rounded
from transforms.storage import get, put
from transforms.timing import step
from transforms.video.decode import Frame, decode_clip

_Shown = tuple[str | None, bool]
"""What a task shows, a camera or all of them, and whether it is a control task."""

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves files of its machine, by their path below its document root."""


@dataclass(frozen=True, slots=True)
class PushTask:
    """An event: the places of its sample's parts in packs, and the files with rows of it.

    `shown` has what tasks are made of.
    """

    key: str
    event: Event
    shown: tuple[_Shown, ...]
    parts: tuple[tuple[str, int, int], ...]
    frames: tuple[str, ...]
    views: tuple[str, ...]


@dataclass(slots=True)
class PushStage(Stage):
    """Makes the proxies and tasks of events, into the folder `media`.

    Label Studio finds a proxy at `address` and the proxy's name.
    """

    lake_url: str
    media: str
    address: str
    spec: ProxySpec
    name: str = "review_push"
    task: ClassVar[type] = PushTask
    resources: ClassVar[Mapping[str, str]] = {"min_ram": "2GB"}

    def process(self, task: PushTask) -> Output:
        """Makes the proxies and tasks of one event, camera by camera."""
        output = Output()
        frames = rows_of("frames", task.frames, [task.event.log_id])
        views = rows_of("views", task.views, [task.event.event_id])
        try:
            parts = [
                get(pack_url(self.lake_url, uri), start, start + length)
                for uri, start, length in task.parts
            ]
            made = _make(task.event, task.shown, parts, frames, views, self.spec)
        except DataError as error:
            uri = task.parts[0][0]
            reject = Reject.of(error, uri=uri, stage=self.name, subject=task.event.event_id)
            output.rejects.append(reject)
            output.counts.append(Count(self.name, "events", rejected=1))
            return output
        for mp4, document in made:
            key = document["data"][KEY]
            document["data"]["video"] = f"{self.address}{key}.mp4"
            put(f"{self.media}/{key}.mp4", mp4)
            put(f"{self.media}/{key}.json", canonical(rounded(document)))
        output.counts.append(Count(self.name, "events", kept=1))
        output.counts.append(Count(self.name, "tasks", kept=len(made)))
        return output


def _make(  # noqa: PLR0917 - all are inputs of equal rank
    event: Event,
    shown: Sequence[_Shown],
    parts: Sequence[bytes],
    frames: pa.Table,
    views: pa.Table,
    spec: ProxySpec,
) -> list[tuple[bytes, dict[str, Any]]]:
    """Makes the proxy and the task of each camera, or of all."""
    members: dict[str, bytes] = {}
    for part in parts:
        members |= read_sample(part)
    said = json.loads(members["json"])
    sizes = json.loads(members["pictures.json"])["cameras"]
    signals = dict(np.load(io.BytesIO(members["signals.npz"]), allow_pickle=False))
    labels = said["labelling"]
    labelled = LabelSpec(labels["label_fps"], tuple(labels["models"]))
    boxes = pa.table(said["boxes"]) if said["boxes"]["camera"] else None

    def size(camera: str) -> tuple[int, int]:
        return sizes[camera]["width_px"], sizes[camera]["height_px"]

    def view(camera: str, t_ns: Sequence[int | None]) -> View:
        own = pc.field("camera") == camera
        times = np.unique(np.array([t for t in t_ns if t is not None], dtype=np.int64))
        looked = _looked(views.filter(own), labelled)
        if not len(looked):
            steps = Steps(event.start_ns, labelled.label_fps)
            looked = np.array([t for t in times.tolist() if steps.takes(t)], dtype=np.int64)
        found = None if boxes is None else boxes.filter(own)
        return View(camera, size(camera), t_ns, looked, found)

    made = []
    for camera, control in shown:
        cameras = [camera] if camera is not None else sorted(sizes)
        times = [_inside(event, frames.filter(pc.field("camera") == one)) for one in cameras]
        clips = [
            decode_clip(members[f"{member_name(one)}.mp4"], event.start_ns, own)
            for one, own in zip(cameras, times, strict=True)
        ]
        layout = None
        with step("encode"):
            if camera is not None:
                proxy = make_proxy(clips[0], times[0], size(camera), spec)
                seen = [proxy.t_ns.tolist()]
            else:
                layout = lay_out([size(one) for one in cameras], spec.max_width)
                proxy, seen = _tiled(clips, times, [size(one) for one in cameras], layout, spec)
        own = [view(one, t_ns) for one, t_ns in zip(cameras, seen, strict=True)]
        task = review_task(event, own, layout, proxy, labels["digest"], signals, control=control)
        made.append((proxy.mp4, task))
    return made


def _tiled(
    clips: Sequence[Iterable[Frame]],
    times: Sequence[IntArray],
    sizes: Sequence[tuple[int, int]],
    layout: Layout,
    spec: ProxySpec,
) -> tuple[Proxy, list[list[int | None]]]:
    """Makes the proxy of all cameras, and says what each of its frames shows of each."""
    shown: list[tuple[int | None, ...]] = []

    def frames() -> Iterator[Frame]:
        for frame, seen in tile(clips, times, sizes, layout):
            shown.append(seen)
            yield frame

    fastest = max(times, key=len)
    proxy = make_proxy(frames(), fastest, (layout.width, layout.height), spec)
    return proxy, [list(of_camera) for of_camera in zip(*shown, strict=True)]


def _inside(event: Event, frames: pa.Table) -> IntArray:
    t_ns = np.unique(frames["t_ns"].to_numpy())
    return np.asarray(t_ns[(t_ns >= event.start_ns) & (t_ns < event.end_ns)])


def _looked(views: pa.Table, spec: LabelSpec) -> IntArray:
    """Returns the times of the frames that the models of the labels looked at."""
    looks = {spec.look(model) for model in spec.models}
    times = [row["t_ns"] for row in views.to_pylist() if row["spec_digest"] in looks]
    return np.unique(np.array([t_ns for row in times for t_ns in row], dtype=np.int64))


def plan_review_push(lake: Lake, config: ReviewPushConfig) -> Work:
    """Chooses what labellers get to see, and finds the tasks of it that are not made yet.

    Raises:
        UsageError: a quota is of a trigger that has no labelled event.
    """
    media = config.out.rstrip("/")
    query = "\n".join([latest_samples(config.privacy), "SELECT * FROM selection"])
    found = read_rows(lake, query).to_pylist()
    # A lake before format 3 has whole samples, without the sizes of pictures.
    rows = [row for row in found if row["cameras"] and len(row["parts"]) > 1]
    whole = sum(len(row["parts"]) == 1 for row in found)
    notes = [f"{whole} events of an older lake are left out; label them again"] if whole else []
    listed, made = read_order(media), made_tasks(media)
    chosen, said = choose(lake, rows, {*listed, *made}, config)
    if chosen:
        put(f"{media}/{ORDER}", "\n".join([*listed, *chosen]).encode())
    wanted, due = _by_event(rows, {*listed, *made, *chosen}, made)
    address = config.address
    if address is None:
        local = f"{LOCAL_FILES}{media.rpartition('/')[2]}/"
        address = f"{media}/" if "://" in media else local
    return Work(
        stage=PushStage(lake.url, media, address, ProxySpec(config.width)),
        tasks=list(_tasks(lake, [row for row in rows if row["event_id"] in due], due)),
        expected={("review_push", "events"): wanted},
        known=(Count("review_push", "events", filtered=wanted - len(due)),),
        notes=(*notes, *said),
        detail={"folder": media, "address": address, **config.served},
    )


def _by_event(
    rows: Sequence[Mapping[str, Any]], keys: set[str], made: set[str]
) -> tuple[int, dict[str, list[_Shown]]]:
    """Finds the events of tasks.

    Returns:
        The number of events that have any of the keys, and by event what those show that are
        not made yet.
    """
    wanted, due = 0, {}
    for row in rows:
        own = [
            (key, camera, control)
            for camera in shown_in(row)
            for control in (False, True)
            if (key := task_key(row["event_id"], camera, control=control)) in keys
        ]
        wanted += bool(own)
        if new := [(camera, control) for key, camera, control in own if key not in made]:
            due[row["event_id"]] = new
    return wanted, due


def _tasks(
    lake: Lake,
    rows: Sequence[Mapping[str, Any]],
    due: Mapping[str, Sequence[_Shown]],
) -> Iterator[PushTask]:
    frames = locate(lake, ("frames",), sorted({row["log_id"] for row in rows}))
    tables = {"views"} & lake.versions.keys()
    views: Mapping[str, Places] = locate_events(lake, tables, [row["event_id"] for row in rows])
    for row in sorted(rows, key=lambda row: (row["log_id"], row["start_ns"], row["event_id"])):
        event = Event(**{name: row[name] for name in Event.__dataclass_fields__})
        parts = tuple((part["pack_uri"], part["offset"], part["length"]) for part in row["parts"])
        shown = tuple(due[event.event_id])
        yield PushTask(
            digest("review", event.event_id, shown, [list(part) for part in parts]),
            event,
            shown,
            parts,
            frames["frames"].get(event.log_id, ()),
            views.get("views", {}).get(event.event_id, ()),
        )
