"""Labels one event: does what is due of looking, encoding, linking and rendering, and no more.

detect   decodes the window once: models that have not seen it look, clips are encoded
link     what models saw becomes boxes, tracks and the ego path     (tables only)
render   the parts of the sample are written from what there is     (tables only)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from auto_label.detect import Detected, detect_event
from auto_label.event_rows import LABELS, EventRows
from auto_label.labels import Labels, link_event
from auto_label.models import Detector
from auto_label.render import clip_part, labels_part, signals_part
from auto_label.specs import SIGNALS_DIGEST, Due
from schemas.errors import EmptyError
from schemas.records import Event, Reject
from schemas.tables import TABLES
from transforms.corpora import CORPORA, Sample
from transforms.timing import step


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a sample, as files by suffix.

    `spec_digest` says what it was made with, `source_digest` which labels are in it; `cameras`
    and `privacy` are those of its pictures.
    """

    part: str
    spec_digest: str
    members: Mapping[str, bytes]
    source_digest: str | None = None
    cameras: tuple[str, ...] = ()
    privacy: str | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """What was made of one event: rows by table, parts, and how many frames were decoded.

    `missing` are frames that the decoder could not give; `rejects` has one entry for each camera
    whose video could not be used, `cameras` are the others.
    """

    tables: dict[str, pa.Table]
    parts: tuple[Part, ...]
    cameras: tuple[str, ...]
    decoded: int
    missing: int
    rejects: tuple[Reject, ...]


def label_event(
    event: Event,
    log: EventRows,
    detectors: Mapping[str, Detector],
    due: Due,
) -> Labelled:
    """Does what is due of one event.

    Args:
        event: the event.
        log: the rows of its log, and what is there of the event.
        detectors: the models that `due` names, by identity.
        due: what is to be done.

    Raises:
        PrivacyError: what has to be hidden on its pictures cannot be found.
        EmptyError: the log has video, but none of the event.
        CorruptError: rows of the log contradict each other.
    """
    detected = Detected()
    if due.detects:
        detected = detect_event(event, log, detectors, due)
        _require_pictures(event, log, detected)
    made: dict[str, pa.Table] = {}
    if due.models:
        made["views"] = _rows("views", detected.views)
        made["detections"] = _rows("detections", detected.detections)
    linked = pc.field("spec_digest") == due.spec.link_digest
    labels = Labels(*(log.of(table).filter(linked) for table in LABELS))
    if detected.privacy:
        made["privacy"] = _rows("privacy", detected.privacy)
    if due.link:
        views, detections = (
            pa.concat_tables([log.of(table), made.get(table, TABLES[table].empty())])
            for table in ("views", "detections")
        )
        labels = link_event(event, views, detections, log.signals, due.spec)
        made |= labels.tables()
    return Labelled(
        made,
        tuple(_parts(event, log, detected, labels, due)),
        tuple(detected.cameras),
        detected.decoded,
        detected.missing,
        tuple(detected.rejects),
    )


def _require_pictures(event: Event, log: EventRows, detected: Detected) -> None:
    """Checks that an event of a log with video has pictures, or says why not."""
    if log.videos and not detected.cameras and not detected.rejects:
        uri = min(video.uri for videos in log.videos.values() for video in videos)
        raise EmptyError(
            f"{uri}: event {event.event_id}: no camera has a frame from {event.start_ns} to "
            f"{event.end_ns} ns; its log is longer than its video"
        )


def _rows(table: str, parts: Sequence[pa.Table]) -> pa.Table:
    return TABLES[table].conform(pa.concat_tables([TABLES[table].empty(), *parts]))


def _parts(
    event: Event, log: EventRows, detected: Detected, labels: Labels, due: Due
) -> Iterator[Part]:
    """Makes the parts that are due, in the order in which a sample has them."""
    if due.pixels is not None:
        clip = clip_part(event, detected.clips, detected.sizes, due.pixels)
        cameras, privacy = tuple(detected.cameras), due.pixels.privacy
        yield _part("clip", due.pixels.digest, clip, cameras=cameras, privacy=privacy)
    if due.signals:
        yield _part("signals", SIGNALS_DIGEST, signals_part(event, log.signals, log.joints))
    if due.labels:
        sample = labels_part(event, log.row, labels, due.spec)
        yield _part("labels", due.spec.digest, sample, source_digest=due.spec.link_digest)


def _part(
    name: str,
    spec_digest: str,
    sample: Sample,
    *,
    source_digest: str | None = None,
    cameras: tuple[str, ...] = (),
    privacy: str | None = None,
) -> Part:
    with step("render"):
        members = CORPORA.load("webdataset")().members(sample)
    return Part(name, spec_digest, members, source_digest, cameras, privacy)
