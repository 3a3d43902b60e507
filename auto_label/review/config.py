"""The labelling configuration of a review project: what Label Studio shows, and what it asks.

Its controls, by the names under which answers come back:

    box, class   boxes that move through the video, and what they are
    verdict      whether the trigger was right about the event
    scene        what else is the case
    comment      free text

The video and the signals below it are played in sync, which Label Studio has since 1.20.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args
from xml.etree import ElementTree as ET

from auto_label.scene import BICYCLES, PERSONS
from schemas.signals import SIGNAL

VIDEO, BOX, CLASS, SIGNALS = "video", "box", "class", "signals"
VERDICT, SCENE, COMMENT = "verdict", "scene", "comment"

Verdict = Literal["right", "wrong", "unsure"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""Whether the trigger was right about the event."""

SCENES = ("night", "rain", "snow", "fog", "tunnel", "construction", "blocked camera")
"""What a reviewer may say of the scene."""

CLASSES = tuple(sorted(PERSONS | BICYCLES | {"car", "truck", "bus", "motorcycle", "animal"}))
"""The classes that can be chosen in any project; models may add others."""

TIME = "time_s"
"""The column of the signals' time, in seconds of the video."""

CHANNELS = {
    "speed_mps": "m/s",
    "accel_x_mps2": "m/s²",
    "steering_angle_rad": "rad",
    "brake_on": "",
    "blinker_left": "",
    "blinker_right": "",
}
"""The signals that are shown below the video, and their units."""

_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
_SYNC = "event"
_MEASURED = {"height": "100", "displayFormat": ".2f"}
_STATE = {"height": "30", "displayFormat": ".0f", "showYAxis": "false"}


def labelling_config(classes: Iterable[str]) -> str:
    """Writes the configuration as Label Studio's XML.

    Args:
        classes: those of the labels that are shown; CLASSES can be chosen too.

    >>> 'value="tram"' in labelling_config(["tram"])
    True
    """
    view = ET.Element("View")
    ET.SubElement(view, "Header", value="$title")
    ET.SubElement(
        view, "Video", name=VIDEO, value="$video", framerate="$fps", sync=_SYNC, height="480"
    )
    ET.SubElement(view, "VideoRectangle", name=BOX, toName=VIDEO)
    labels = ET.SubElement(view, "Labels", name=CLASS, toName=VIDEO, choice="single")
    for number, name in enumerate(sorted({*CLASSES, *classes})):
        ET.SubElement(labels, "Label", value=name, background=_COLOURS[number % len(_COLOURS)])
    _choices(view, VERDICT, VERDICTS, "single")
    series = ET.SubElement(
        view,
        "TimeSeries",
        name=SIGNALS,
        value="$signals",
        valueType="json",
        timeColumn=TIME,
        timeDisplayFormat=".2f",
        sync=_SYNC,
        # The whole event, on one scale; else it is a quarter of it, scaled anew as it moves.
        overviewWidth="100%",
        fixedScale="true",
    )
    for name, unit in CHANNELS.items():
        doc = SIGNAL[name].doc.partition(",")[0]
        look = _MEASURED if unit else _STATE
        ET.SubElement(series, "Channel", {"column": name, "units": unit, "legend": doc, **look})
    _choices(view, SCENE, SCENES, "multiple")
    ET.SubElement(view, "TextArea", name=COMMENT, toName=VIDEO, maxSubmissions="1", rows="2")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode")


def _choices(view: ET.Element, name: str, values: Iterable[str], choice: str) -> None:
    choices = ET.SubElement(
        view, "Choices", name=name, toName=VIDEO, choice=choice, showInline="true"
    )
    for value in values:
        ET.SubElement(choices, "Choice", value=value)
