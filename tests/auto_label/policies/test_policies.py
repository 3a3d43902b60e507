"""Policy files: those that ship, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from auto_label.models import load_models
from auto_label.policies import KINDS, POLICIES, load_policy
from schemas.errors import UsageError

GOOD = """
name = "mine"
description = "Faces alone"
hide = ["face"]
cover = "solid"
grow = 0.5

[[detectors]]
model = "centerface"
score = 0.4
"""


@pytest.mark.parametrize("name", POLICIES.names())
def test_every_policy_of_ours_hides_everything_with_models_that_we_ship(name: str) -> None:
    policy = load_policy(name)
    assert policy is not None
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own bytes
    assert set(policy.hide) == set(KINDS)
    assert load_models([one.model for one in policy.detectors])
    assert any(one.needed for one in policy.detectors)


def test_the_default_policy_needs_nothing_but_the_package_index() -> None:
    policy = load_policy("blur")
    assert policy is not None
    for one in policy.detectors:
        (model,) = load_models([one.model])
        assert not one.needed or model.url.startswith(("pypi:", "shipped:"))


def test_a_users_folder_adds_a_policy_and_none_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    policy = load_policy("mine", [str(tmp_path)])
    assert policy is not None
    assert (policy.hide, policy.cover) == (("face",), "solid")
    assert (policy.detectors[0].fps, policy.detectors[0].needed) == (5.0, True)
    assert load_policy(str(path)) == policy
    assert load_policy("none") is None


def test_the_identity_follows_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(GOOD)
    policy = load_policy("mine", [str(tmp_path)])
    assert policy is not None
    assert policy.identity.startswith("mine@")
    assert policy.replace(description="Faces").identity == policy.identity
    for change in ({"grow": 0.1}, {"cover": "blur"}, {"hide": ("face", "head")}):
        assert policy.replace(**change).identity != policy.identity


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('hide = ["face"]', 'hide = ["tattoo"]'), r"hide\[0\] = \"tattoo\": choose one of: face"),
        (('hide = ["face"]', "hide = []"), "hide"),
        (('"solid"', '"pixelate"'), 'cover = "pixelate": choose one of: blur, solid'),
        (("grow = 0.5", "grow = -1"), "grow = -1: must be at least 0"),
        (("score = 0.4", "score = 1"), r"detectors\[0\].score = 1: must be below 1"),
        (("score = 0.4", "score = 0.4\nfsp = 2"), r"detectors\[0\].fsp: unknown key; choose one"),
        (('name = "mine"', 'name = "none"'), 'name = "none": '),
        (("[[detectors]]", "[detectors]"), "detectors"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    name = "none" if "none" in change[1] else "mine"
    (tmp_path / f"{name}.toml").write_text(GOOD.replace(*change))
    with pytest.raises(UsageError, match=rf"^policy .*{says}"):
        load_policy(str(tmp_path / f"{name}.toml"))


def test_an_unknown_policy_is_told_with_the_choices() -> None:
    with pytest.raises(UsageError, match='policy "blurr": unknown; choose one of: blur, '):
        load_policy("blurr")
