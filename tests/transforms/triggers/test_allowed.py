"""The allow-list: what is on it exists and is deterministic, and what is not is refused."""

from __future__ import annotations

import duckdb
import pytest

from schemas.errors import UsageError
from schemas.tables import TABLES
from tests.transforms.triggers.test_expressions import TRIGGER
from transforms.triggers import allowed
from transforms.triggers.sql import Query


def compile_(text: str, table: str = "signals", key: str = "when") -> None:
    """Compiles an expression over a table."""
    Query(TABLES[table].schema, 1).add(TRIGGER, key, text)


def refused(text: str, table: str = "joints", key: str = "score") -> str:
    """Returns why an expression is refused."""
    with pytest.raises(UsageError) as caught:
        compile_(text, table, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_allowed_exists_and_is_deterministic() -> None:
    rows = duckdb.connect().sql(
        "SELECT lower(function_name), bool_and(stability IS NULL OR stability = 'CONSISTENT') "
        "FROM duckdb_functions() GROUP BY 1"
    )
    known = dict(rows.fetchall())
    assert known.keys() >= allowed.FUNCTIONS | allowed.WINDOWS
    assert [name for name in allowed.FUNCTIONS if not known[name]] == []


@pytest.mark.parametrize(
    "text",
    [
        "speed_mps::INTEGER > 1",
        "CAST(t_ns AS DOUBLE) / 1e9 > 1",
        "TRY_CAST(gear AS INTEGER) = 1",
        "speed_mps::DECIMAL(10, 2) > 1.5",
        "'[1, 2]'::DOUBLE[] IS NULL",
        "speed_mps::VARCHAR = '1'",
        "try(gear::INTEGER) IS NULL",
        "hour(make_timestamp_ns(t_ns)) > 6",
        "extract(minute FROM make_timestamp_ns(t_ns)) > 6",
        "make_timestamp_ns(t_ns) - INTERVAL 1 DAY > TIMESTAMP '2020-01-01'",
        "to_timestamp(t_ns / 1e9) > '2020-01-01'",
        "CASE gear WHEN 'drive' THEN speed_mps > 1 ELSE false END",
        "if(speed_mps > 1, true, false)",
        "gear IN ('drive', 'park') AND gear NOT IN ('reverse')",
        "gear LIKE '%dr%ve%' OR gear ILIKE 'Park' OR gear NOT LIKE '_rive'",
        "lower(trim(gear)) || '!' = 'drive!'",
        "substring(gear FROM 1 FOR 2) = 'dr'",
        "greatest(speed_mps, 1, abs(accel_x_mps2)) BETWEEN 1 AND 2",
        "speed_mps ** 2 // 1 % 3 = 1 AND round(speed_mps, 1) = 2 AND @speed_mps = 1",
        "hash(log_id) % 10 = 0",
        "isnan(speed_mps) OR speed_mps IS DISTINCT FROM 1",
        "MEAN(speed_mps, -1, 1) > 2",
        "avg(speed_mps) OVER (ORDER BY t_ns ROWS BETWEEN 5 PRECEDING AND CURRENT ROW) > 1",
    ],
)
def test_what_a_user_expects_is_allowed(text: str) -> None:
    compile_(text)


@pytest.mark.parametrize(
    "text",
    [
        "list_max(list_transform(position, lambda v, i: abs(v - velocity[i])))",
        "list_sum([abs(v) FOR v IN position])",
        "list_reduce(position, lambda a, v: a + v)",
        "len(list_filter(position, lambda v: v > 1))",
        "list_sum(list_transform(position, lambda v: past(position, 1)[1] * mean(t_ns, -1, 1)))",
        "len(range(1, len(position) + 1)) + len(range(10))",
        "list_sum(position[1:3]) + list_avg(position || velocity)",
        "list_distance(position, velocity)",
        "list_max(list_transform(list_zip(position, velocity), lambda p: p[1] - p[2]))",
    ],
)
def test_lists_can_be_looked_at(text: str) -> None:
    compile_(text, "joints", "score")


@pytest.mark.parametrize(
    "call",
    [
        "repeat(log_id, 2)", "lpad(log_id, 1000000000, 'x')", "rpad(log_id, 9, 'x')",
        "levenshtein(log_id, log_id)", "damerau_levenshtein(log_id, log_id)",
        "editdist3(log_id, log_id)", "jaccard(log_id, log_id)", "hamming(log_id, log_id)",
        "jaro_similarity(log_id, log_id)", "jaro_winkler_similarity(log_id, log_id)",
        "regexp_replace(log_id, '(a*)*', 'x')", "regexp_matches(log_id, 'a')", "log_id ~ 'a'",
        "log_id SIMILAR TO 'a'", "log_id GLOB '*a*a*a*'", "replace(log_id, 'a', 'aaaa')",
        "hex(log_id)", "to_base64(log_id::BLOB)", "url_encode(log_id)", "regexp_escape(log_id)",
        "format('{:>1000000000}', log_id)", "printf('%1000000000d', 1)", "bar(1, 0, 1, 1e9)",
        "string_split(log_id, '')", "translate(log_id, 'a', 'b')", "to_json(log_id)",
        "json_serialize_sql(log_id)", "bitstring('1', 1000000000)", "map([1], [2])",
        "list_resize(position, 1000000000)", "list_aggregate(position, 'list')", "random()",
        "age(make_timestamp_ns(t_ns))", "get_type(log_id)", "getvariable('x')", "error('x')",
        "current_setting('threads')", "write_log('x')", "pg_sleep(10)", "nextval('x')",
        "strftime(make_timestamp_ns(t_ns), '%A')", "struct_pack(a := 1)",
    ],
)  # fmt: skip
def test_what_can_grow_or_is_not_about_the_rows_is_refused(call: str) -> None:
    assert "is not allowed" in refused(f"length({call})")


@pytest.mark.parametrize("name", ["string_agg", "list", "array_agg", "histogram", "median", "mode"])
def test_windows_that_gather_are_refused(name: str) -> None:
    assert f"'{name}' is not allowed" in refused(f"len({name}(t_ns) OVER ())")


@pytest.mark.parametrize("pattern", ["'%a%b%c'", "'%%%a'", "log_id", "'a' || log_id"])
def test_patterns_are_constants_with_few_wildcards(pattern: str) -> None:
    for operator in ("LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"):
        assert "pattern of LIKE" in refused(f"log_id {operator} {pattern}", key="when")


def test_operators_called_as_functions_are_refused_or_wrong() -> None:
    for call in ('"~~"()', '"!~~*"(log_id)', '"||"()', '"+"()', "range()", "coalesce()"):
        refused(call, key="when")


@pytest.mark.parametrize(
    "bounds",
    ["1000000000", "t_ns", "1, t_ns", "len(position) * 9", "1e9::BIGINT", "$a", "-(-9999)"],
)
def test_ranges_have_small_bounds(bounds: str) -> None:
    assert "range" in refused(f"len(range({bounds}))") or bounds == "$a"


def test_nothing_can_be_doubled_again_and_again() -> None:
    """A lambda gives a name to a value, so that a short text could double it many times."""
    doubled = "position"
    for _ in range(8):
        doubled = f"list_transform([{doubled}], lambda v: list_concat(v, v))[1]"
    assert "must make numbers" in refused(f"len({doubled})")
    text = "log_id"
    for _ in range(8):
        text = f"list_transform([{text}], lambda v: v || v)[1]"
    assert "lambda" in refused(f"length({text})")
    for made in ("[v, v]", "{'a': v, 'b': v}", "v::VARCHAR", "position", "row(v, v)"):
        refused(f"len(list_transform(position, lambda v: {made}))")
    refused("len(list_reduce([position], lambda a, v: list_concat(a, a)))")
    assert "list" in refused("len(flatten([position, position]))")
    assert "cast to text" in refused("length([log_id]::VARCHAR)")
    assert "cast" in refused("len(position::VARCHAR[])")


def test_a_lambda_does_not_go_through_whole_lists() -> None:
    for body in (
        "list_sum(position)",
        "list_sum(list_transform(position, lambda w: w * v))",
        "CASE WHEN position = velocity THEN 1 ELSE 0 END",
        "len(past(position, 1) || velocity)",
        "max(v) OVER ()",
        "position[1:2][1]",
    ):
        assert "lambda" in refused(f"list_sum(list_transform(position, lambda v: {body}))")


def test_size_is_limited() -> None:
    assert "brackets" in refused("(" * 65 + "1" + ")" * 65)
    assert "brackets" in refused("(" * 3990)
    assert "brackets" in refused("[(" * 40 + ")(" * 40)
    assert "parts" in refused("t_ns IN (" + ",".join("9" * 1001) + ")", key="when")
    assert "joins" in refused("length(" + "||".join(["log_id"] * 18) + ")")
    assert "functions of time" in refused("+".join(["mean(t_ns, 0, 1)"] * 41))
    assert "ranges" in refused("+".join(["len(range(9))"] * 5))


@pytest.mark.parametrize(
    "type_", ["JSON", "BLOB", "BIT", "UUID", "ENUM('a')", "MAP(INT, INT)", "t"]
)
def test_casts_are_to_plain_types(type_: str) -> None:
    assert "a cast to" in refused(f"log_id::{type_} IS NULL", key="when")


@pytest.mark.parametrize("text", ["position.len()", "main.len(position)", "t_ns.mean(0, 1)"])
def test_a_function_is_called_by_its_name_alone(text: str) -> None:
    assert "between" in refused(text)
