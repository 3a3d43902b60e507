"""What labels and clips are made with: each has a digest, by which the lake knows what is due.

A clip depends on what makes its pixels, labels on models and on what links them, and neither on
the other: a better model, or a fix of the linker, leaves every clip as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auto_label import cover, ego, link, masks, regions
from auto_label.policies import NONE, PolicyDetector, PolicySpec
from schemas.ids import digest

LOOK_VERSION = 1
"""Version of detecting; raised when a model is given other pictures of the same window."""

CLIP_VERSION = 1
"""Version of clips; raised when the same window is encoded differently, other than by blurring."""

LABELS_VERSION = 1
"""Version of the label part; raised when the same rows are written differently."""

SIGNALS_VERSION = 1
"""Version of the signals part; raised when the same rows are written differently."""

SIGNALS_DIGEST = digest("signals", SIGNALS_VERSION)
"""The digest of the signals part, which has no settings."""

_MAX_LABEL_FPS = 120.0


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """What makes the pixels of a clip.

    Args:
        crf: x264's constant rate factor, 0 to 51.
        policy: what is hidden; None hides nothing.
        detectors: those of the policy that look, in its order, each with the identity of its
            model (`ModelSpec.identity`).
    """

    crf: int = 25
    policy: PolicySpec | None = None
    detectors: tuple[tuple[PolicyDetector, str], ...] = ()

    def __post_init__(self) -> None:
        """Checks the values."""
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf is {self.crf}, must be in 0..51")
        used = [detector for detector, _ in self.detectors]
        wanted = self.policy.detectors if self.policy else ()
        if [one for one in wanted if one.needed or one in used] != used:
            raise ValueError(f"detectors {used} are not those that privacy {self.privacy} needs")
        _check_identities(self.models)

    @property
    def privacy(self) -> str:
        """The name of the policy."""
        return NONE if self.policy is None else self.policy.name

    @property
    def models(self) -> tuple[str, ...]:
        """The identities of the models that look."""
        return tuple(dict.fromkeys(identity for _, identity in self.detectors))

    @property
    def missing(self) -> tuple[str, ...]:
        """The models of the policy that do not look, since their weights cannot be had."""
        used = [detector for detector, _ in self.detectors]
        wanted = self.policy.detectors if self.policy else ()
        return tuple(dict.fromkeys(one.model for one in wanted if one not in used))

    @property
    def told(self) -> dict[str, Any]:
        """What is said of it beside the pictures."""
        return {
            "privacy": self.privacy,
            "policy": NONE if self.policy is None else self.policy.identity,
            "crf": self.crf,
            "models": list(self.models),
        }

    @property
    def digest(self) -> str:
        """The digest of the clip part."""
        hidden = [cover.VERSION, masks.VERSION, regions.VERSION]
        versions = [CLIP_VERSION, *(hidden if self.policy else [])]
        return digest("clip", versions, self.told)


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """What labels are made with.

    Args:
        label_fps: frames per second for detectors, from 1 to 120.
        models: the identities of the detectors, in order.
    """

    label_fps: float = 5.0
    models: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values."""
        if not 1.0 <= self.label_fps <= _MAX_LABEL_FPS:
            raise ValueError(f"label_fps is {self.label_fps}, must be in 1..{_MAX_LABEL_FPS:g}")
        _check_identities(self.models)

    def look(self, model: str) -> str:
        """Returns the digest of what a model sees: of rows of `views` and `detections`."""
        return digest("look", LOOK_VERSION, self.label_fps, model)

    @property
    def link_digest(self) -> str:
        """The digest of linked rows: of `boxes`, `tracks` and `ego_path`."""
        looks = [self.look(model) for model in self.models]
        return digest("link", [link.VERSION, ego.VERSION], self.label_fps, looks)

    @property
    def digest(self) -> str:
        """The digest of the label part."""
        return digest("labels", LABELS_VERSION, self.link_digest)


@dataclass(frozen=True, slots=True)
class Due:
    """What of an event is to be done.

    Args:
        spec: the specification of the labels.
        models: those of its models that have not looked at the event, by identity.
        pixels: what the clips are made with; None if they are there.
        link: whether what the models saw is linked.
        labels: whether the label part is written.
        signals: whether the signals part is written.
    """

    spec: LabelSpec
    models: tuple[str, ...] = ()
    pixels: PixelSpec | None = None
    link: bool = False
    labels: bool = False
    signals: bool = False

    @classmethod
    def whole(cls, spec: LabelSpec, pixels: PixelSpec) -> Due:
        """Everything there is to do with an event."""
        return cls(spec, spec.models, pixels, link=True, labels=True, signals=True)

    @classmethod
    def without(cls, done: frozenset[str], spec: LabelSpec, pixels: PixelSpec) -> Due:
        """Everything except what is done, given by its digests."""
        return cls(
            spec,
            tuple(model for model in spec.models if spec.look(model) not in done),
            None if pixels.digest in done else pixels,
            spec.link_digest not in done,
            spec.digest not in done,
            SIGNALS_DIGEST not in done,
        )

    @property
    def detects(self) -> bool:
        """Whether the window has to be decoded."""
        return bool(self.models) or self.pixels is not None

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests of what is due, by which the lake knows it."""
        looks = [self.spec.look(model) for model in self.models]
        clip = [] if self.pixels is None else [self.pixels.digest]
        rest = (
            (self.link, self.spec.link_digest),
            (self.labels, self.spec.digest),
            (self.signals, SIGNALS_DIGEST),
        )
        return (*looks, *clip, *(one for due, one in rest if due))


def _check_identities(models: tuple[str, ...]) -> None:
    for model in models:
        if "@" not in model:
            raise ValueError(f"models names {model!r}; give ModelSpec.identity, not a name")
