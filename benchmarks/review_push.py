"""review_push: sending tasks to Label Studio, against the bare import of the same JSON by its API.

Ours is all that `fleetmill review push` does once the proxies are made: it lists the folder, takes
the classes from the tasks, makes the project, looks what is there, reads, sends and counts.
The peer only posts bodies that were made before, in requests of the size that is fastest for it.
The two take turns, request by request, so that a drift of the machine affects both alike.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import httpx
import numpy as np
import pyarrow as pa

from auto_label.review.config import CHANNELS, labelling_config
from auto_label.review.proxy import Proxy
from auto_label.review.tasks import View, review_task, task_key
from benchmarks import Measure
from jobs.reporting import Reporter
from jobs.review_push import send
from pipeline.config import ReviewPushConfig
from pipeline.label_studio.connection import connect
from pipeline.label_studio.tasks import task_keys
from pipeline.label_studio.tokens import VARIABLE
from schemas.arrays import AnyArray, IntArray
from schemas.ids import canonical, digest
from schemas.records import Event
from schemas.tables import TABLES
from schemas.times import NS_PER_S
from tests.label_studio import LEGACY_TOKEN, LabelStudio, running
from transforms.corpora.webdataset import rounded

TASKS = 5_000
PEER_TASKS = 250
"""Tasks of a request of the peer: the fastest of 100, 250, 1,000 and all in one."""

_DIFFERENT = 50
"""Events that differ; the others repeat them under keys of their own."""

_SIZE, _CLASSES = (1280, 960), ("car", "person", "truck")
_SECONDS, _FPS, _LOOKS_PER_S, _SIGNALS_PER_S, _TRACKS = 10, 30, 2, 50, 8

_KILL_AFTER_S = 0.2
"""After an answer, when the next request is under way."""


def measure() -> Iterator[Measure]:
    """Pushes and imports, and pushes once more while the process that does so is killed twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "tasks")
        size = write_tasks(folder, TASKS)
        with (
            running(Path(name, "server")) as server,
            patch.dict(os.environ, {VARIABLE: server.token}),
        ):
            turns = _Turns(server, sorted(folder.iterdir()))
            started = time.perf_counter()
            _push(folder, server.url, "ours", turns.take)
            ours_s = time.perf_counter() - started - turns.bodies_s - turns.peer_s
            tasks, keys = interrupted(server, folder, TASKS)
    yield Measure(
        "review_push",
        TASKS / ours_s,
        TASKS / turns.peer_s,
        f"the bare import, {PEER_TASKS} a request",
        "tasks/s",
        f"{TASKS} tasks of {size / TASKS / 1e3:.0f} kB; time per task in the last fifth over that "
        f"in the first: {slope(turns.ours):.2f}, the peer's {slope(turns.peers):.2f}; "
        f"killed twice and resumed: {tasks} tasks with {keys} keys",
    )


class _Turns:
    """Lets the peer import as many tasks whenever some of ours have arrived.

    `ours` and `peers` are numbers of tasks and the seconds after which they were there, `bodies_s`
    is what making the peer's bodies took.
    """

    def __init__(self, server: LabelStudio, paths: Sequence[Path]) -> None:
        config = {"title": "peer", "label_config": labelling_config(_CLASSES)}
        project = server.ask("POST", "/api/projects", config)["id"]
        headers = {"Authorization": f"Token {LEGACY_TOKEN}", "Content-Type": "application/json"}
        self._client = httpx.Client(base_url=server.url, headers=headers, timeout=300)
        self._address = f"/api/projects/{project}/import"
        self._paths = paths
        self._since = 0.0
        self.bodies_s = self.peer_s = 0.0
        self.ours: list[tuple[int, float]] = []
        self.peers = [(0, 0.0)]

    def take(self, done: int) -> None:
        """Notes our time, and imports what the peer is behind; ours begins with the first call."""
        now = time.perf_counter()
        self.ours.append((done, self.ours[-1][1] + now - self._since if self.ours else 0.0))
        while (there := self.peers[-1][0]) + PEER_TASKS <= done or there < done == TASKS:
            self._import(self._paths[there : there + PEER_TASKS])
        self._since = time.perf_counter()

    def _import(self, paths: Sequence[Path]) -> None:
        begun = time.perf_counter()
        body = b"[" + b",".join(path.read_bytes() for path in paths) + b"]"
        made = time.perf_counter()
        self._client.post(self._address, content=body).raise_for_status()
        self.bodies_s += made - begun
        self.peer_s += time.perf_counter() - made
        self.peers.append((self.peers[-1][0] + len(paths), self.peer_s))


def slope(points: Sequence[tuple[int, float]]) -> float:
    """Returns the time of the last fifth of the tasks over that of the first.

    >>> slope([(0, 0.0), (10, 1.0), (20, 3.0)])
    2.0
    """
    done, spent = zip(*points, strict=True)
    first, last = np.interp([done[-1] / 5, done[-1] * 4 / 5], done, spent)
    return round(float((spent[-1] - last) / first), 6)


def interrupted(server: LabelStudio, folder: Path, tasks: int) -> tuple[int, int]:
    """Pushes in a process that is killed with a third and with two thirds of the tasks there.

    The next process starts at once, when the server may be at work on the last request still.

    Returns:
        The number of tasks that the project has then, and that of their keys.

    Raises:
        EOFError: a process failed before it was killed.
    """
    context, title = get_context("spawn"), "interrupted"
    project = 0
    for wanted in (tasks // 3, tasks * 2 // 3, tasks):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_push_and_tell, args=(theirs, folder, server.url, title))
        process.start()
        theirs.close()
        while ours.recv() < wanted:
            pass
        if wanted < tasks:
            time.sleep(_KILL_AFTER_S)
            process.kill()
        else:
            project = ours.recv()
        process.join()
    with closing(connect(server.url)) as connection:
        keys = len(task_keys(connection, project))
    return int(server.ask("GET", f"/api/tasks?project={project}&page_size=1")["total"]), keys


def _push_and_tell(told: Connection, folder: Path, url: str, title: str) -> None:
    """Pushes; tells how many tasks are there as they arrive, and then the project's id."""
    told.send(_push(folder, url, title, told.send))


def _push(folder: Path, url: str, title: str, on_progress: Callable[[int], None]) -> int:
    """Does what the command does when the proxies are made; returns the project's id."""
    reporter = _Quiet(on_progress)
    config = ReviewPushConfig(out=str(folder), label_studio=url, project=title)
    done = send(reporter, address="", folder=config.out, **config.served)
    return int(done["projects"][0])


class _Quiet(Reporter):
    """Passes the progress on and prints nothing."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        super().__init__(as_json=True)
        self._on_progress = on_progress

    def start(self, job: str, tasks: int) -> None:
        """Prints nothing."""

    def progress(self, done: int, following: int = 0) -> None:  # noqa: ARG002
        """Passes on how many tasks are there."""
        self._on_progress(done)


def write_tasks(folder: Path, number: int) -> int:
    """Writes tasks as a push leaves them in its folder; returns their size in bytes."""
    folder.mkdir()
    made = [_task(k) for k in range(min(number, _DIFFERENT))]
    size = 0
    for k in range(number):
        event, other = _event_id(k), _event_id(k % _DIFFERENT)
        key = task_key(event, "front")
        task = made[k % _DIFFERENT].replace(other.encode(), event.encode())
        task = task.replace(task_key(other, "front").encode(), key.encode())
        (folder / f"{key}.json").write_bytes(task)
        size += len(task)
    return size


def _event_id(number: int) -> str:
    return digest("event", number)


def _task(number: int) -> bytes:
    """Makes the task of an event, with times, boxes and signals of its own."""
    dice = np.random.default_rng(number)
    start_ns, length_ns = number * 60 * NS_PER_S, _SECONDS * NS_PER_S
    frames = start_ns + np.arange(_SECONDS * _FPS) * NS_PER_S // _FPS
    frames += dice.integers(0, NS_PER_S // _FPS // 10, len(frames))
    looked = frames[:: _FPS // _LOOKS_PER_S]
    grid = np.arange(start_ns, start_ns + length_ns, NS_PER_S // _SIGNALS_PER_S)
    signals: dict[str, AnyArray] = {"t_ns": grid}
    for name, unit in CHANNELS.items():
        values = np.cumsum(dice.normal(0, 0.1, len(grid)))
        signals[name] = values if unit else (values > 0).astype(np.int8)
    event = Event(
        _event_id(number), digest("log"), digest("drive"), "hard_brake", 1, digest("spec"),
        start_ns, start_ns + length_ns // 2, start_ns + length_ns, 0.5, "{}",
    )  # fmt: skip
    video = f"/data/local-files/?d=review/{task_key(event.event_id, 'front')}.mp4"
    proxy, boxes = Proxy(b"", _FPS, frames), _boxes(dice, looked)
    view = View("front", _SIZE, frames.tolist(), looked, boxes)
    task = review_task(event, [view], None, proxy, digest("labels"), signals)
    task["data"]["video"] = video
    return canonical(rounded(task))


def _boxes(dice: np.random.Generator, looked_ns: IntArray) -> pa.Table:
    """Makes tracks that wander, each over a part of the event."""
    rows = []
    for track in range(1, _TRACKS + 1):
        first, last = sorted(dice.choice(len(looked_ns), 2, replace=False))
        times = looked_ns[first : last + 1].tolist()
        at = dice.uniform(200, 800, 2) + np.cumsum(dice.normal(0, 5, (len(times), 2)), axis=0)
        for t_ns, (x, y) in zip(times, at.tolist(), strict=True):
            rows.append(
                {"event_id": "event", "camera": "front", "track_id": track, "t_ns": t_ns,
                 "class": _CLASSES[track % len(_CLASSES)], "x_px": x, "y_px": y, "w_px": 60.0,
                 "h_px": 50.0, "score": float(dice.uniform(0.3, 1)), "source": "yolox_nano",
                 "source_version": "0.1.1", "spec_digest": digest("look")}
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=TABLES["boxes"].schema)
