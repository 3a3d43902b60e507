"""Specifications: their digests, and those that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from auto_label.specs import LabelSpec, PixelSpec
from tests.auto_label.painted import (
    Red,
)


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
    pixels = [
        PixelSpec(),
        PixelSpec(privacy="none"),
        PixelSpec(crf=30),
        PixelSpec(models=(other,)),
    ]
    assert len({spec.digest for spec in pixels}) == len(pixels)


@pytest.mark.parametrize(
    "wrong", [{"label_fps": 0.1}, {"label_fps": float("nan")}, {"models": ("yolox_nano",)}]
)
def test_labels_that_cannot_be_made_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelSpec(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"privacy": "no"},
        {"crf": 99},
        {"models": ("yolox_nano",)},
        {"privacy": "none", "models": ("a@1",)},
    ],
)
def test_pixels_that_cannot_be_made_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PixelSpec(**wrong)
