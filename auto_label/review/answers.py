"""Answers: annotations of review tasks, as Label Studio gives them, to rows of `verdicts`.

What a reviewer drew comes back to the times and the pixels of the recording by what the task's
`data` says, whatever the proxy's size and rate. Boxes are told on the frames that models looked
at, and on those on which the reviewer placed one; where no box is listed on these there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auto_label.review.config import COMMENT, SCENE, VERDICT, VERDICTS
from auto_label.review.keyframes import own_frames, shown
from auto_label.review.tasks import TRACK, task_key
from schemas.arrays import IntArray
from schemas.errors import CorruptError, excerpt
from schemas.times import NS_PER_S

UNNAMED = "unnamed"
"""The class of a region that the reviewer gave none."""

_LEAST_PX = 0.5
"""Width and height of a box: ours have a pixel, and keyframes are exact to a fraction of one."""

_MAX_FRAMES = 1_000_000
_MAX_REGIONS = 10_000
_MAX_CHARS = 10_000
_Time = Annotated[int, Field(ge=0, lt=1 << 62)]
_Frame = Annotated[int, Field(ge=1, le=_MAX_FRAMES)]
_Side = Annotated[int, Field(ge=1, le=1 << 16)]
_Place = Annotated[int, Field(ge=0, le=1 << 16)]


class View(BaseModel):
    """What a task shows of one camera."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    camera: str
    frames_ns: Annotated[
        tuple[_Time | None, ...], Field(min_length=1, max_length=_MAX_FRAMES, strict=False)
    ]
    grid: Annotated[tuple[_Frame, ...], Field(max_length=_MAX_FRAMES, strict=False)]
    width_px: _Side
    height_px: _Side
    cell: Annotated[tuple[_Place, _Place, _Side, _Side], Field(strict=False)]

    def holds(self, frames: int, size: tuple[int, int]) -> bool:
        """Tells whether it can be what fleetmill wrote of a picture with so many frames."""
        known = [t_ns for t_ns in self.frames_ns if t_ns is not None]
        steps, grid = np.diff(np.array(known)), np.diff(np.array(self.grid, dtype=np.int64))
        x, y, width, height = self.cell
        return (
            len(self.frames_ns) == frames
            and self.frames_ns == (None,) * (frames - len(known)) + tuple(known)
            and bool((steps >= 0).all() and (grid > 0).all())
            and all(frames - len(known) < frame <= frames for frame in self.grid)
            and x + width <= size[0]
            and y + height <= size[1]
        )


class TaskData(BaseModel):
    """What of a task's `data` answers are read by; other keys are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    fleetmill: str
    event_id: str
    log_id: str
    drive_id: str
    width_px: _Side
    height_px: _Side
    cameras: Annotated[tuple[View, ...], Field(min_length=1, max_length=1000, strict=False)]
    labels_digest: str | None = None

    @property
    def control(self) -> bool:
        """Whether its answer is known, so that it checks the reviewer."""
        return self.fleetmill == self._key(control=True)

    def _key(self, *, control: bool) -> str:
        camera = self.cameras[0].camera if len(self.cameras) == 1 else None
        return task_key(self.event_id, camera, control=control)

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> TaskData:
        """Reads the data of a task, of Label Studio's API or of an export as JSON.

        Raises:
            CorruptError: the task is none of ours, or somebody changed it.
        """
        given = task["data"]
        if "cameras" not in given:
            whole = {"cell": (0, 0, given.get("width_px"), given.get("height_px"))}
            given = given | {"cameras": [given | whole]}
        try:
            data = cls.model_validate(given)
        except ValidationError as error:
            mistake = error.errors()[0]
            key = ".".join(str(place) for place in mistake["loc"])
            raise CorruptError(
                f"a review task's data.{excerpt(key)}: {mistake['msg']}; push its event again"
            ) from error
        frames, size = len(data.cameras[0].frames_ns), (data.width_px, data.height_px)
        own = data.control or data.fleetmill == data._key(control=False)
        # Only beside another camera's pictures one is shown again.
        rising = len(data.cameras) > 1 or len(set(data.cameras[0].frames_ns)) == frames
        if not (own and rising and all(view.holds(frames, size) for view in data.cameras)):
            raise CorruptError(
                f"review task {excerpt(data.fleetmill)} of event {excerpt(data.event_id)}: its "
                "data are not those that fleetmill wrote; push its event again"
            )
        return data


def answer_subject(annotation: Mapping[str, Any]) -> str:
    """Returns what the ledger knows a state of an annotation by.

    Raises:
        CorruptError: it has no id, or no time.
    """
    try:
        return f"{_annotation(annotation)}@{_updated_unix_ns(annotation)}"
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptError(
            f"an annotation has no id or no time: {type(error).__name__}: {excerpt(error)}"
        ) from error


@dataclass(frozen=True, slots=True)
class _Region:
    """A box that moves: its id, its class, and its keyframes as Label Studio has them."""

    name: str
    class_: str
    sequence: object


def answers(data: TaskData, annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turns an annotation into rows of `verdicts`, one of each camera that the task shows.

    Args:
        data: what the task is about.
        annotation: one of the task's annotations.

    Raises:
        CorruptError: it is not what Label Studio makes of our configuration.
    """
    try:
        return list(_rows(data, annotation))
    except CorruptError as error:
        raise CorruptError(f"review task {data.fleetmill}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CorruptError(
            f"review task {data.fleetmill}: an annotation cannot be read: "
            f"{type(error).__name__}: {excerpt(error)}"
        ) from error


def _rows(data: TaskData, annotation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    results = annotation.get("result") or []
    if len(results) > _MAX_REGIONS:
        raise CorruptError(f"an annotation has {len(results)} regions")
    regions = [_region(one) for one in results if one.get("type") == "videorectangle"]
    by_view: list[list[_Region]] = [[] for _ in data.cameras]
    for region in regions:
        by_view[_view_of(data, region)].append(region)
    verdict = next(iter(_chosen(results, VERDICT)), None)
    for view, own in zip(data.cameras, by_view, strict=True):
        frames = _frames(view, own)
        times = (view.frames_ns[frame - 1] for frame in frames.tolist())
        yield {
            "event_id": data.event_id,
            "log_id": data.log_id,
            "drive_id": data.drive_id,
            "camera": view.camera,
            "task": data.fleetmill,
            "annotation": _annotation(annotation),
            "updated_unix_ns": _updated_unix_ns(annotation),
            "reviewer": _reviewer(annotation.get("completed_by")),
            "verdict": verdict if verdict in VERDICTS else None,
            "scene": sorted(_chosen(results, SCENE)),
            "comment": "\n".join(_texts(results)) or None,
            "skipped": bool(annotation.get("was_cancelled", False)),
            "control": data.control,
            "seconds": _seconds(annotation.get("lead_time")),
            "width_px": view.width_px,
            "height_px": view.height_px,
            "frames_ns": list(dict.fromkeys(times)),
            "boxes": list(_boxes(data, view, own, frames)),
            "labels_digest": data.labels_digest,
        }


def _view_of(data: TaskData, region: _Region) -> int:
    """Returns the camera on whose picture a region begins: that to which its middle is nearest."""
    if len(data.cameras) == 1:
        return 0
    first = own_frames(region.sequence)[:1]
    if not len(first):
        return 0
    _, ((x, y, width, height),) = shown(region.sequence, first, (data.width_px, data.height_px))
    cells = np.array([view.cell for view in data.cameras], dtype=np.float64)
    low, high = cells[:, :2], cells[:, :2] + cells[:, 2:]
    middle = np.array([x + width / 2, y + height / 2])
    away = np.maximum(low - middle, 0) + np.maximum(middle - high, 0)
    return int((away**2).sum(axis=1).argmin())


def _annotation(annotation: Mapping[str, Any]) -> str:
    """Returns what an annotation is known by: its id on its server, and when it was made.

    Exports have an id that is unique over servers, and the API does not show it.
    """
    return _text(f"{annotation['id']}-{_unix_ns(annotation['created_at'])}")


def _region(result: Mapping[str, Any]) -> _Region:
    value = result["value"]
    names = value.get("labels") or [UNNAMED]
    return _Region(str(result["id"]), _text(names[0]), value["sequence"])


def _frames(view: View, regions: Sequence[_Region]) -> IntArray:
    """Returns the frames with a picture of the camera that an answer speaks about, from 1."""
    placed = [own_frames(region.sequence) for region in regions]
    frames = np.unique(np.concatenate([np.array(view.grid, dtype=np.int64), *placed]))
    first = view.frames_ns.count(None) + 1
    inside = (frames >= first) & (frames <= len(view.frames_ns))
    return np.asarray(frames[inside], dtype=np.int64)


def _boxes(
    data: TaskData, view: View, regions: Sequence[_Region], frames: IntArray
) -> Iterator[dict[str, Any]]:
    """Yields the boxes, cut at the edges of the picture; those outside it are left out."""
    size = np.array([view.width_px, view.height_px], dtype=np.float64)
    corner, cell = np.array(view.cell[:2]), np.array(view.cell[2:])
    for number, region in _numbered(regions):
        on, xywh = shown(region.sequence, frames, (data.width_px, data.height_px))
        start = (xywh[:, :2] - corner) * size / cell
        end = (xywh[:, :2] + xywh[:, 2:] - corner) * size / cell
        # A picture that is shown again has the box that was placed last.
        times = {view.frames_ns[frame - 1]: row for row, frame in enumerate(on.tolist())}
        for t_ns, row in times.items():
            (x, y), (right, below) = np.clip([start[row], end[row]], 0, size).tolist()
            if right - x >= _LEAST_PX and below - y >= _LEAST_PX:
                yield {
                    "track_id": number,
                    "class": region.class_,
                    "t_ns": t_ns,
                    "x_px": x,
                    "y_px": y,
                    "w_px": right - x,
                    "h_px": below - y,
                }


def _numbered(regions: Sequence[_Region]) -> list[tuple[int, _Region]]:
    """Numbers regions: those of our tracks as they were, and new ones behind all of these."""
    own: dict[int, _Region] = {}
    new: list[_Region] = []
    for region in sorted(regions, key=lambda region: region.name):
        digits = region.name.removeprefix(TRACK).partition("-")[0]
        known = region.name.startswith(TRACK) and digits.isdecimal() and len(digits) < 10
        if known and int(digits) not in own:
            own[int(digits)] = region
        else:
            new.append(region)
    first = 1 + max(own, default=0)
    return [*sorted(own.items()), *enumerate(new, start=first)]


def _chosen(results: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return [
        _text(choice)
        for one in results
        if one.get("from_name") == name and one.get("type") == "choices"
        for choice in one["value"]["choices"]
    ]


def _texts(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in results:
        if one.get("from_name") == COMMENT and one.get("type") == "textarea":
            texts = one["value"]["text"]
            yield from map(_text, [texts] if isinstance(texts, str) else texts)


def _reviewer(completed_by: Any) -> str:
    """Returns who answered: the e-mail address if it is told, else the number of the user."""
    if isinstance(completed_by, Mapping):
        return _text(completed_by.get("email") or f"user {completed_by['id']}")
    return "unknown" if completed_by is None else _text(f"user {completed_by}")


def _text(value: Any) -> str:
    """Returns a text as Unicode, of bounded length."""
    return str(value)[:_MAX_CHARS].encode("utf-8", "replace").decode()


def _seconds(lead_time: Any) -> float | None:
    seconds = None if lead_time is None else float(lead_time)
    return seconds if seconds is not None and np.isfinite(seconds) else None


def _updated_unix_ns(annotation: Mapping[str, Any]) -> int:
    return _unix_ns(annotation.get("updated_at") or annotation["created_at"])


def _unix_ns(text: str) -> int:
    """Returns a time of Label Studio, which is ISO 8601 with microseconds."""
    at = datetime.fromisoformat(text)
    since = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    unix_ns = (since.days * 86_400 + since.seconds) * NS_PER_S + since.microseconds * 1000
    if not 0 <= unix_ns < 1 << 63:
        raise ValueError(f"the time {at} is not one of an answer")
    return unix_ns
