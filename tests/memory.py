"""The most memory of a process, while it runs.

`getrusage` tells that of a child only with what its parent had when it forked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.005


@dataclass(slots=True)
class Peak:
    """The most resident bytes that were seen."""

    bytes: int = 0


@contextmanager
def peak_of(pid: int) -> Iterator[Peak]:
    """Watches a process that runs its own program already, while the block runs."""
    peak, over = Peak(), threading.Event()

    def watch() -> None:
        while not over.wait(_POLL_S):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:  # it ended
                return
            found = status.partition("VmHWM:")[2].split()
            peak.bytes = max(peak.bytes, int(found[0]) * 1024 if found else 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def living_bytes() -> int:
    """Returns the most memory that a living child, or a child of one, ever had."""
    parents: dict[int, int] = {}
    peaks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
        except OSError:  # it has ended meanwhile
            continue
        process = int(path.parent.name)
        parents[process] = int(fields["PPid"])
        peaks[process] = int(fields.get("VmHWM", "0").split()[0]) * 1024
    ours = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return max((peaks[child] for child in ours - {os.getpid()}), default=0)
