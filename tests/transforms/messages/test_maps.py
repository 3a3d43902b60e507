"""Topic maps: their rows, their mistakes, and which of them count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import UsageError
from transforms.messages.maps import Row, load_topic_maps, numbers, rows_of, shipped


def row(**fields: Any) -> Row:
    return Row(**{"signal": "speed_mps", "topic": "/t", "terms": ("a",), **fields})


def test_a_number_is_made_of_its_terms() -> None:
    terms = [np.array([3.0, 6.0]), np.array([4.0, 8.0])]
    assert row(terms=("a", "b"), combine="norm").values(terms).tolist() == [5, 10]
    assert row(terms=("a", "b"), combine="mean").values(terms).tolist() == [3.5, 7]
    assert row(factor=-2.0).values(terms[:1]).tolist() == [6, 12], "speed is never negative"
    made = row(signal="alt_m", factor=0.5, offset=1.0).values(terms[:1])
    assert made.tolist() == [2.5, 4]
    assert row(unit="km/h").values([np.array([36.0])])[0] == pytest.approx(10)


def test_states_are_made_of_numbers() -> None:
    state = np.array([1, 2, 3])
    assert row(signal="brake_on", true=(2, 3)).values([state]).tolist() == [False, True, True]
    gear = row(signal="gear", names={1: "drive", 2: "park"}).values([state])
    assert gear.tolist() == ["drive", "park", None]


def test_messages_count_where_their_fields_say_so() -> None:
    own = row(where={"status": (0, 1)})
    valid = np.array([True, True, False, True])
    columns = {"status": np.array([0, -1, 0, np.nan])}
    assert own.counts(columns, valid).tolist() == [True, False, False, False]
    assert own.fields == ("a", "status")


def test_what_is_no_number_is_nan() -> None:
    found = numbers(np.array([1, 2.5, True, "x", None], object))
    np.testing.assert_array_equal(found, [1, 2.5, 1, np.nan, np.nan])
    assert numbers(np.array([3], np.int8)).dtype == np.float64


def test_a_row_is_for_a_type_a_topic_or_both() -> None:
    assert row(topic="", type="a/B").fits("/x", "a/msg/B")
    assert not row(topic="", type="a/B").fits("/x", "a/msg/C")
    assert row(topic="/t").fits("/t", "any")
    assert not row(topic="/t", type="a/B").fits("/t", "a/C")


MAP = 'name = "m"\ndescription = "d"\n[[row]]\nsignal = "alt_m"\ntopic = "/t"\nterms = ["a"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MAP.replace('topic = "/t"\n', ""), "needs a type or a topic"),
        (MAP.replace("alt_m", "height"), "choose one of"),
        (MAP.replace("alt_m", "gear"), "gear needs names"),
        (MAP.replace("alt_m", "brake_on"), "brake_on needs true"),
        (MAP + "true = [1]\n", "neither true nor names"),
        (MAP.replace("alt_m", "brake_on").replace('"a"', '"a", "b"') + "true = [1]\n", "one term"),
        (MAP + 'unit = "mph"\n', "choose one of"),
        (MAP + "factor = nan\n", "factor"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        load_topic_maps([str(tmp_path)])


def test_the_users_rows_count_before_ours_and_a_map_of_the_same_name_in_place_of_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "m.toml").write_text(MAP)
    (tmp_path / "ros.toml").write_text(MAP.replace('"m"', '"ros"').replace("/t", "/own"))
    (own, ros) = load_topic_maps([str(tmp_path)])
    ours = rows_of()
    assert rows_of((own,)) == (*own.rows, *ours)
    assert rows_of((own, ros)) == (*own.rows, *ros.rows, *shipped()[1].rows)
    assert own.digest != ros.digest
    assert [one.name for one in shipped()] == ["ros", "vehicle_state"]
