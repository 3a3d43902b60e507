"""The labelling configuration: what is asked, and that what tasks say is shown."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from auto_label.review.config import CHANNELS, CLASSES, TIME, VERDICTS, labelling_config
from schemas.signals import SIGNAL


def test_every_class_can_be_chosen_once() -> None:
    view = ET.fromstring(labelling_config(["car", "tram", 'a <b> & "c"']))  # noqa: S314 - ours
    names = [label.get("value") for label in view.iter("Label")]
    assert names == sorted({*CLASSES, "tram", 'a <b> & "c"'})


def test_controls_are_distinct_and_ask_about_the_video() -> None:
    view = ET.fromstring(labelling_config([]))  # noqa: S314 - our own text
    names = [one.get("name") for one in view.iter() if one.get("name")]
    assert len(names) == len(set(names))
    assert {one.get("toName") for one in view.iter() if one.get("toName")} == {"video"}
    verdict = next(one for one in view.iter("Choices") if one.get("name") == "verdict")
    assert tuple(choice.get("value") for choice in verdict) == VERDICTS


def test_video_and_signals_are_in_sync() -> None:
    view = ET.fromstring(labelling_config([]))  # noqa: S314 - our own text
    (video,), (series,) = view.iter("Video"), view.iter("TimeSeries")
    assert video.get("sync") == series.get("sync")
    assert (video.get("framerate"), series.get("timeColumn")) == ("$fps", TIME)
    assert [channel.get("column") for channel in series] == list(CHANNELS)
    assert SIGNAL.keys() >= CHANNELS.keys()
