"""Privacy policies: what is hidden on pictures before they are written, one .toml a policy.

    name = "blur"                 # the name of the file too, and the `privacy` of its clips
    description = "..."
    hide = ["face", "head", "plate"]
    cover = "blur"                # or "solid": one colour, nothing of the picture is left
    grow = 0.15                   # each side of a region moves out by so much of its size

    [[detectors]]                 # what looks for it
    model = "yunet"               # a model; its classes say what it finds
    fps = 5.0                     # pictures a second that it looks at; may be left out
    enlarge = 1.5                 # how much larger they are made for it; may be left out
    score = 0.3                   # boxes below do not count
    platforms = ["vehicle"]       # whose logs it looks at; all if left out
    needed = true                 # false: goes on without it where its weights cannot be had

    [[exclude]]                   # footage that is not decoded; may be left out
    name = "school"               # the keys are those of auto_label.exclusions
    polygon = [[48.137, 11.575], [48.139, 11.580], [48.135, 11.581]]

Models that find faces or plates say where to cover; of persons the heads are covered, of vehicles
the zones where plates are. If a detector that is needed is missing or fails, nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from auto_label.exclusions import Exclusion
from schemas.ids import digest
from schemas.records import Platform
from transforms.definitions import STRICT, Definition, Definitions, Text

NONE = "none"
"""In place of a policy: nothing is hidden."""

Kind = Literal["face", "head", "plate"]
"""What can be hidden."""

KINDS: tuple[Kind, ...] = get_args(Kind)


class PolicyDetector(BaseModel):
    """A model as a policy uses it. Scores from 0 to 1, rates in pictures a second."""

    model_config = STRICT

    model: Text
    fps: float = Field(default=5.0, ge=1, le=120)
    enlarge: float = Field(default=1.0, ge=1, le=4)
    score: float = Field(gt=0, lt=1)
    platforms: Annotated[tuple[Platform, ...], Field(strict=False)] = ()
    needed: bool = True

    def looks_at(self, platform: str) -> bool:
        """Tells whether it looks at the logs of a platform."""
        return not self.platforms or platform in self.platforms


class PolicySpec(Definition):
    """A policy."""

    hide: Annotated[tuple[Kind, ...], Field(min_length=1, strict=False)]
    cover: Literal["blur", "solid"]
    grow: float = Field(ge=0, le=1)
    detectors: Annotated[tuple[PolicyDetector, ...], Field(min_length=1, strict=False)]
    exclude: Annotated[tuple[Exclusion, ...], Field(strict=False)] = ()

    @field_validator("name")
    @classmethod
    def _check_is_not_none(cls, value: str) -> str:
        if value == NONE:
            raise ValueError("stands for no policy; choose another name")
        return value

    @property
    def identity(self) -> str:
        """The name and a digest of all that changes what is hidden."""
        made_of = self.model_dump(mode="json", exclude={"description"})
        return f"{self.name}@{digest('policy', made_of)}"


POLICIES = Definitions("policy", PolicySpec, str(Path(__file__).parent))


def load_policy(name: str, dirs: Sequence[str] = ()) -> PolicySpec | None:
    """Loads a policy by name, or by the path of a .toml file; "none" is None.

    Raises:
        UsageError: the name is unknown (lists the choices), or its file is wrong (names the key).

    >>> load_policy("blur").hide, load_policy("none")
    (('face', 'head', 'plate'), None)
    """
    return None if name == NONE else POLICIES.load(name, dirs)
