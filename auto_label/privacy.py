"""Privacy of one camera's clip: looks for what a policy hides, then covers it on every frame.

It fails closed: whatever goes wrong in a detector that looks ends the event, so that no picture is
written of which it is not known what has to be hidden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from auto_label.cover import cover
from auto_label.masks import Masks
from auto_label.models import Detections, Detector
from auto_label.policies import KINDS, NONE, PolicyDetector
from auto_label.regions import SURE, find_regions
from auto_label.specs import PixelSpec
from auto_label.steps import Steps
from schemas.arrays import Image
from schemas.errors import PrivacyError, one_line
from schemas.records import Event
from transforms.timing import step


class Privacy:
    """What is hidden on the frames of one camera of an event.

    Frames are given in order: first to `look` those that `wants` wants, then to `cover` all.

    Args:
        event: the event.
        spec: the policy, and the models of its detectors that look.
        detectors: these models, by identity.
        last_ns: the time of the last frame, which every detector looks at.
        platform: what recorded the log.
    """

    def __init__(
        self,
        event: Event,
        spec: PixelSpec,
        detectors: Mapping[str, Detector],
        last_ns: int,
        platform: str,
    ) -> None:
        self._spec, self._last_ns = spec, last_ns
        self._detectors = [
            (one, detectors[identity]) for one, identity in spec.detectors if one.looks_at(platform)
        ]
        self._steps = [Steps(event.start_ns, one.fps) for one, _ in self._detectors]
        self._due: dict[int, list[int]] = {}
        self._t_ns: list[int] = []
        self._found: list[Detections] = []
        self._masks: Masks | None = None
        self._frames = 0
        self._area_frac: list[float] = []

    @property
    def looks(self) -> bool:
        """Whether pictures are looked at before they are covered."""
        return bool(self._detectors)

    def wants(self, t_ns: int) -> bool:
        """Tells whether a detector looks at the frame at a time."""
        due = [k for k, steps in enumerate(self._steps) if steps.takes(t_ns)]
        if t_ns == self._last_ns:
            due = [*range(len(self._steps))]
        if due:
            self._due.setdefault(t_ns, due)
        return bool(due)

    def look(self, image: Image, t_ns: int) -> dict[str, Detections]:
        """Looks for what is hidden on a frame.

        Args:
            image: uint8[h, w, 3], BGR.
            t_ns: its time.

        Returns:
            What models saw on the picture as it is, by identity.

        Raises:
            PrivacyError: a detector fails.
        """
        if t_ns not in self._due or self._spec.policy is None:
            return {}
        seen: dict[tuple[str, float], Detections] = {}
        looked: list[tuple[PolicyDetector, Detections]] = []
        for k in self._due[t_ns]:
            one, detector = self._detectors[k]
            key = detector.spec.identity, one.enlarge
            if key not in seen:
                with step("detect"):
                    seen[key] = self._look(detector, image, one.enlarge, t_ns)
            looked.append((one, seen[key]))
        with step("privacy"):
            self._t_ns.append(t_ns)
            self._found.append(find_regions(looked, self._spec.policy))
        return {identity: found for (identity, enlarge), found in seen.items() if enlarge == 1}

    def _look(self, detector: Detector, image: Image, enlarge: float, t_ns: int) -> Detections:
        large = image
        if enlarge != 1:
            large = cv2.resize(image, None, fx=enlarge, fy=enlarge).astype(np.uint8, copy=False)
        try:
            (found,) = detector.detect([large])
        except MemoryError:
            raise
        except Exception as error:  # whatever a model raises, nothing is written without it
            raise PrivacyError(
                f"privacy {self._spec.privacy}: model {detector.spec.name} fails on the picture at "
                f"{t_ns} ns: {one_line(error) or type(error).__name__}; nothing of the event is "
                "written"
            ) from error
        size = np.array([image.shape[1], image.shape[0]]) / large.shape[1::-1]
        xywh = found.xywh * np.tile(size, 2)
        return Detections(xywh, found.score, found.class_index, found.classes)

    def masks(self) -> Masks:
        """Returns what is covered of each frame, after the last one that is looked at."""
        if self._masks is None:
            self._masks = Masks(np.array(self._t_ns, dtype=np.int64), self._found)
        return self._masks

    def cover(self, image: Image, t_ns: int) -> None:
        """Covers what is hidden on a frame, in place.

        Args:
            image: uint8[h, w, 3], BGR.
            t_ns: its time.
        """
        policy = self._spec.policy
        self._frames += 1
        if policy is None:
            return
        with step("privacy"):
            pixels = cover(image, self.masks().of(t_ns), policy.cover)
            self._area_frac.append(pixels / (image.shape[0] * image.shape[1]))

    def audit(self) -> dict[str, Any]:
        """Returns what was hidden, and by what: the columns of `privacy` that say so."""
        policy = self._spec.policy
        sure = [found.class_index[found.score >= SURE] for found in self._found]
        kinds = Counter(KINDS[k] for rows in sure for k in rows.tolist())
        area = np.array(self._area_frac or [0.0])
        return {
            "policy": NONE if policy is None else policy.identity,
            "models": list(dict.fromkeys(model.spec.identity for _, model in self._detectors)),
            "missing": list(self._spec.missing),
            "frames": self._frames,
            "looks": len(self._t_ns),
            "faces": kinds["face"],
            "heads": kinds["head"],
            "plates": kinds["plate"],
            "held": 0 if self._masks is None else self._masks.held,
            "area_mean_frac": float(area.mean()),
            "area_max_frac": float(area.max()),
        }
