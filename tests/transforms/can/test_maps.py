"""CAN maps: what they make of decoded frames, which one is chosen, and what they may say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.errors import UsageError
from schemas.times import NS_PER_S
from transforms.can.dbc import Database
from transforms.can.maps import CAN_MAPS, car_map, load_can_maps

DBCS = ("dbc/toyota_2017.dbc", "dbc/tesla_model3_party.dbc")
MINE = """
name = "mine"
description = "one of the user's"
[[row]]
signal = "speed_mps"
message = "SPEED"
terms = ["KPH"]
unit = "km/h"
[[row]]
signal = "gear"
message = "GEAR"
terms = ["LEVER"]
names = { 0 = "park", 1 = "drive" }
[[row]]
signal = "brake_on"
message = "BRAKE"
terms = ["PRESSED"]
true = [1, 2]
"""


def load(tmp_path: Path, text: str) -> Database:
    """Writes a DBC file and loads it."""
    path = tmp_path / "a.dbc"
    path.write_text(text, encoding="cp1252")
    return Database.load([str(path)])


def test_a_car_map_joins_scales_and_names_signals(tmp_path: Path) -> None:
    """A DBC with the names of the Toyota map yields vehicle signals in SI units."""
    text = (
        "BU_: X\n\nBO_ 37 STEER_ANGLE_SENSOR: 8 X\n"
        ' SG_ STEER_ANGLE : 3|12@0- (1.5,0) [0|0] "deg" X\n'
        ' SG_ STEER_FRACTION : 39|4@0- (0.1,0) [0|0] "deg" X\n\nBO_ 956 GEAR_PACKET: 8 X\n'
        ' SG_ GEAR : 13|6@0+ (1,0) [0|63] "" X\n'
    )
    database = load(tmp_path, text)
    family = car_map(database)
    assert family is not None
    assert family.name == "toyota_2017"
    payload = np.zeros((4, 8), dtype=np.uint8)
    payload[0] = [0x0F, 0xFE, 0, 0, 0x30, 0, 0, 0]  # -2 * 1.5 + 3 * 0.1 degrees
    payload[1:, 1] = [32, 8, 63]
    decoded = database.decode(np.array([37, 956, 956, 956]), payload)
    angle, gear = family.channels(decoded, np.array([0, 5, 6, 7]) * NS_PER_S)
    assert (angle.name, gear.name) == ("steering_angle_rad", "gear")
    np.testing.assert_allclose(angle.values, np.radians([-2.7]), rtol=1e-15)
    assert gear.t_ns.tolist() == [
        5 * NS_PER_S,
        11 * NS_PER_S // 2,
        6 * NS_PER_S,
        13 * NS_PER_S // 2,
        7 * NS_PER_S,
    ]
    assert gear.values.tolist() == ["park", "park", "neutral", "neutral", None]


def test_every_row_of_a_public_map_is_in_its_database(data: Path) -> None:
    """Each map matches the public databases of its make, and no others."""
    for name in DBCS:
        database = Database.load([str(data / name)])
        known = {(m.name, s.name) for m in database.messages.values() for s in m.signals}
        family = car_map(database)
        assert family is not None
        assert family.name == Path(name).stem
        assert {(row.message, term) for row in family.rows for term in row.terms} <= known


def test_terms_that_never_meet_make_no_signal(tmp_path: Path) -> None:
    """A forged database may put the terms of one signal under different multiplexer values."""
    text = (
        'BU_: X\n\nBO_ 37 STEER_ANGLE_SENSOR: 8 X\n SG_ which M : 0|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ STEER_ANGLE m0 : 8|8@1- (1.5,0) [0|0] "deg" X\n'
        ' SG_ STEER_FRACTION m1 : 8|8@1- (0.1,0) [0|0] "deg" X\n'
    )
    database = load(tmp_path, text)
    payload = np.zeros((3, 8), dtype=np.uint8)
    payload[0, 0] = 1
    family = car_map(database)
    assert family is not None
    assert family.channels(database.decode(np.full(3, 37), payload), np.arange(3)) == ()


def test_a_users_map_goes_before_ours_where_it_fits_as_well(tmp_path: Path) -> None:
    text = 'BU_: X\n\nBO_ 37 SPEED: 8 X\n SG_ SPEED : 7|16@0+ (0.01,0) [0|0] "" X\n'
    database = load(tmp_path, text)
    ours = car_map(database)
    assert ours is not None
    assert ours.name == "toyota_2017"
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "mine.toml").write_text(MINE)
    own = load_can_maps([str(folder)])
    assert car_map(database, own) == ours, "mine fits none of its messages"
    (folder / "mine.toml").write_text(MINE.replace('["KPH"]', '["SPEED"]'))
    (tied,) = load_can_maps([str(folder)])
    assert car_map(database, [tied]) == tied
    same_name = MINE.replace('"mine"', '"toyota_2017"')
    (folder / "mine.toml").unlink()
    (folder / "toyota_2017.toml").write_text(same_name)
    assert car_map(database, load_can_maps([str(folder)])) is None, "ours is replaced"


def test_the_digest_follows_the_signals_and_not_the_description(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"

    def digest(text: str) -> str:
        path.write_text(text)
        return CAN_MAPS.load(str(path)).digest

    first = digest(MINE)
    assert digest(MINE.replace("one of the user's", "other") + "# a comment") == first
    changes = (("km/h", "deg"), ("true = [1, 2]", "true = [1]"), ("0 =", "2 ="), ("KPH", "MPH"))
    assert len({digest(MINE.replace(old, new)) for old, new in changes} | {first}) == 5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("speed_mps", "sped_mps", 'row[0].signal = "sped_mps": choose one of: accel_x_mps2, '),
        ("km/h", "mph", 'row[0].unit = "mph": choose one of: "", %, deg, km/h'),
        ('["KPH"]', "[]", "row[0].terms = []: must not be shorter than 1"),
        ("0 =", "low =", 'row[1].names.low = "low": must be a number'),
        ("names = {", "true = [1] #", "row[1]: gear needs names"),
        ("true = [1, 2]", "", "row[2]: brake_on needs true"),
        ('unit = "km/h"', "true = [1]", "row[0]: speed_mps needs neither true nor names"),
        ('["PRESSED"]', '["A", "B"]', "row[2]: brake_on needs one term, not 2"),
        (MINE[MINE.index("[[row]]") :], "row = []", "row = []: must not be shorter than 1"),
    ],
)
def test_a_map_that_makes_no_signal_is_refused(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in MINE
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_can_maps([str(tmp_path)])
    assert str(caught.value).startswith(f"CAN map {path}: {says}"), caught.value
