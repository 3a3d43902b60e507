"""Steps of time: which frames are looked at."""

from __future__ import annotations

from schemas.times import NS_PER_S


class Steps:
    """One frame of each step of 1/fps since a start: the first one that is asked for.

    Steps may be asked for in any order: of two files of a camera the second one is opened before
    the first one is at its end.

    Args:
        start_ns: the start.
        fps: steps a second.

    >>> steps = Steps(0, 2.0)
    >>> [t for t in (0, 400_000_000, 500_000_000, 900_000_000) if steps.takes(t)]
    [0, 500000000]
    """

    def __init__(self, start_ns: int, fps: float) -> None:
        self._start_ns, self._step_ns = start_ns, NS_PER_S / fps
        self._taken: set[int] = set()

    def takes(self, t_ns: int) -> bool:
        """Tells whether the frame at a time is the first one of its step."""
        number = int((t_ns - self._start_ns) // self._step_ns)
        if number in self._taken:
            return False
        self._taken.add(number)
        return True
