"""Progress of the runs of this process: how many units are done.

Local runners work in this process, so a bar can watch them. A run on a cluster is watched
by its Beam counters instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_watchers: dict[str, Callable[[], None]] = {}


@contextmanager
def watching(run_id: str, on_unit: Callable[[], None]) -> Iterator[None]:
    """Calls `on_unit` each time a unit of the run is done, from whichever thread did it."""
    with _lock:
        _watchers[run_id] = on_unit
    try:
        yield
    finally:
        with _lock:
            _watchers.pop(run_id, None)


def advance(run_id: str) -> None:
    """Tells that one more unit of the run is done."""
    with _lock:
        on_unit = _watchers.get(run_id)
        if on_unit is not None:
            on_unit()
