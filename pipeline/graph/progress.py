"""The progress of a run, read from its journal: workers may be on any machine."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.graph.journal import Journal
from transforms.storage import is_local

POLL_PAGES = 20
"""Pages that are listed at a time. So a look at a run costs the same however large it is; that of
a large one lags, since it takes the pages in turn."""

OnProgress = Callable[[int, int], None]
"""Takes how many tasks are done, and how many are known to follow from those that were planned."""

_LOCAL_POLL_S = 0.25
_REMOTE_POLL_S = 5.0
_SLOWEST_POLL_S = 60.0


class Progress:
    """Counts the tasks of a run that are done.

    Args:
        journal: the run's journal.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turn: deque[str] = deque()
        self._done: dict[str, int] = {}
        self._following: dict[str, int] = {}

    def look(self) -> tuple[int, int]:
        """Lists some pages.

        Returns:
            How many tasks were seen to be done so far, and how many to follow from others.
        """
        if not self._turn:
            self._turn.extend(self._journal.pages())
        for _ in range(min(POLL_PAGES, len(self._turn))):
            page = self._turn[0]
            done, following = self._journal.done(page)
            self._done[page] = max(done, self._done.get(page, 0))
            self._following[page] = max(following, self._following.get(page, 0))
            self._turn.rotate(-1)
        return sum(self._done.values()), sum(self._following.values())


@contextmanager
def watching(journal: Journal, on_progress: OnProgress) -> Iterator[None]:
    """Reports the progress of a run while the block runs.

    A store that fails is asked again later, with growing intervals: nothing but the progress
    depends on the answer.

    Args:
        journal: the run's journal.
        on_progress: called when the number of tasks that are done has grown.
    """
    shortest = _LOCAL_POLL_S if is_local(journal.folder) else _REMOTE_POLL_S
    over = threading.Event()

    def watch() -> None:
        progress, reported, seconds = Progress(journal), 0, shortest
        while not over.wait(seconds):
            try:
                done, following = progress.look()
            except Exception:  # noqa: BLE001 - stores raise errors of any class
                seconds = min(2 * seconds, _SLOWEST_POLL_S)
                continue
            seconds = shortest
            if done > reported:
                on_progress(reported := done, following)

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
