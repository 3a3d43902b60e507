"""Specifications: their digests, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from auto_label.policies import PolicyDetector, PolicySpec
from auto_label.specs import LabelSpec, PixelSpec
from tests.auto_label.painted import LOOKS, POLICY, Red


def test_digests_follow_everything_that_changes_the_labels_or_the_pixels(red: Red) -> None:
    other = red.spec.replace(sha256="0" * 64).identity
    specs = [
        LabelSpec(),
        LabelSpec(label_fps=4.0),
        LabelSpec(models=(red.spec.identity,)),
        LabelSpec(models=(other,)),
        LabelSpec(models=(red.spec.identity, other)),
    ]
    assert len({spec.digest for spec in specs}) == len(specs)
    assert len({spec.link_digest for spec in specs}) == len(specs)
    assert specs[2].look(other) == specs[3].look(other) != specs[2].look(red.spec.identity)
    seen = PixelSpec(25, POLICY, ((LOOKS, other),))
    pixels = [
        PixelSpec(),
        PixelSpec(30),
        PixelSpec(25, POLICY),
        seen,
        PixelSpec(25, POLICY, ((LOOKS, red.spec.identity),)),
        PixelSpec(25, POLICY.replace(grow=0.2), seen.detectors),
    ]
    assert len({spec.digest for spec in pixels}) == len(pixels)
    assert (seen.privacy, PixelSpec().privacy) == ("painted", "none")
    assert (seen.missing, PixelSpec(25, POLICY).missing) == ((), ("yolox_nano",))
    assert PixelSpec(25, POLICY.replace(description="other")).digest == pixels[2].digest


@pytest.mark.parametrize(
    "wrong", [{"label_fps": 0.1}, {"label_fps": float("nan")}, {"models": ("yolox_nano",)}]
)
def test_labels_that_cannot_be_made_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelSpec(**wrong)


@pytest.mark.parametrize(
    ("detectors", "policy"),
    [
        (((LOOKS, "yolox_nano"),), POLICY),
        (((LOOKS, "a@1"),), None),
        ((), POLICY.replace(detectors=(LOOKS.model_copy(update={"needed": True}),))),
        (((LOOKS.model_copy(update={"fps": 9.0}), "a@1"),), POLICY),
    ],
)
def test_pixels_that_cannot_be_made_are_refused(
    detectors: tuple[tuple[PolicyDetector, str], ...], policy: PolicySpec | None
) -> None:
    with pytest.raises(ValueError, match=r"detectors .* needs|give ModelSpec\.identity"):
        PixelSpec(25, policy, detectors)
    with pytest.raises(ValueError, match="crf is 99"):
        PixelSpec(99)
