"""Links: whether one leads out of a folder, by the path that the system would take."""

from __future__ import annotations

from pathlib import Path

import pytest

from transforms.links import check_links, leaves


def test_a_link_leaves_by_where_it_ends(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-2"
    (root / "in").mkdir(parents=True)
    outside.mkdir()
    ways = {
        "up": ("..", True),
        "over": ("../root-2", True),
        "absolute": (str(outside), True),
        "gone": (str(outside / "nothing"), True),
        "round": ("../root/in", False),
        "itself": (".", False),
        "nowhere": ("in/nothing", False),
        "chain": ("over", True),
        "loop": ("loop", False),
    }
    for name, (target, out) in ways.items():
        (root / name).symlink_to(target)
        assert leaves(str(root), str(root / name)) == out, name
    assert leaves(str(root), str(root / "over" / "x"))
    assert not leaves("/", "/etc/hosts")
    named = tmp_path / "named"
    named.symlink_to(root)
    assert not leaves(str(named), str(named / "round")), "the root itself may be a link"


def test_folders_of_a_lake_hold_no_link_out_of_it(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    (root / "tables").mkdir(parents=True)
    (root / "inside").symlink_to("tables")
    check_links(str(root), str(root), str(root / "tables"), str(root / "absent"))
    (root / "tables" / "logs").symlink_to(tmp_path)
    check_links(str(root), str(root))
    with pytest.raises(OSError, match=r"leads out of the lake.*tables/logs"):
        check_links(str(root), str(root), str(root / "tables"))
    check_links("memory://lake", "memory://lake/tables")
