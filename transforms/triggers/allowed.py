"""What the expressions of triggers may use, and how much of it.

A trigger comes from a stranger, and DuckDB can interrupt a statement only between the calls of
its functions. So what is allowed takes time and memory in proportion to the rows that it is
given: no text or list is repeated, padded, replaced or matched in a way that grows with a number
or with the square of a length, and no lambda multiplies what another one made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Tree = dict[str, Any]
"""A node of a parse tree, as json_serialize_sql writes it."""

MAX_NODES = 1000
MAX_BRACKETS = 64
"""How deep brackets may be nested: the parser takes seconds and gigabytes for thousands."""
MAX_JOINS = 16
"""How often an expression may join texts or lists: each is in memory for 2,048 rows at a time."""
MAX_TIMED = 40
"""Calls of functions of time in an expression: each is a column in memory."""
MAX_WILDCARDS = 2
"""Wildcards % of a pattern, before its end: each multiplies the time by the length of the text."""
MAX_RANGE, MAX_RANGES = 1000, 4
"""Numbers in a range, apart from those of the length of a list; and ranges in an expression."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NODES = _words(
    "BETWEEN CASE CAST COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR "
    "PARAMETER WINDOW"
)
_OPERATORS = _words(
    "ARRAY_EXTRACT ARRAY_SLICE COMPARE_IN COMPARE_NOT_IN OPERATOR_COALESCE OPERATOR_IS_NOT_NULL "
    "OPERATOR_IS_NULL OPERATOR_NOT OPERATOR_TRY"
)

ARITHMETIC = _words(
    "+ - * / // % ** ^ @ & | ~ << >> abs add divide fdiv fmod mod multiply pow power sign signbit "
    "subtract xor"
)
COMPARISON = _words("greatest if isfinite isinf isnan least nullif")
MATH = _words(
    "acos acosh asin asinh atan atan2 atanh bit_count cbrt ceil ceiling cos cosh cot degrees even "
    "exp factorial floor gamma gcd greatest_common_divisor hash lcm least_common_multiple lgamma "
    "ln log log10 log2 nextafter pi radians round round_even roundbankers sin sinh sqrt tan tanh "
    "trunc"
)
DATES = _words(
    "century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc "
    "day dayname dayofmonth dayofweek dayofyear decade epoch epoch_ms epoch_ns epoch_us era hour "
    "isodow isoyear julian last_day make_date make_time make_timestamp make_timestamp_ms "
    "make_timestamp_ns microsecond millennium millisecond minute month monthname nanosecond "
    "quarter second time_bucket timezone to_days to_hours to_microseconds to_milliseconds "
    "to_minutes to_months to_seconds to_timestamp to_weeks to_years week weekday weekofyear year "
    "yearweek"
)
TEXT = _words(
    "!~~ !~~* ^@ || ~~ ~~* ascii bit_length char_length character_length concat contains "
    "ends_with instr lcase left length lower ltrim md5 md5_number octet_length ord position "
    "prefix reverse right rtrim starts_with strlen strpos substr substring suffix trim ucase "
    "unicode upper"
)
LISTS = _words(
    "&& <@ @> apply array_append array_apply array_cat array_concat array_contains array_distinct "
    "array_extract array_filter array_has array_has_all array_has_any array_indexof "
    "array_intersect array_length array_position array_prepend array_reduce array_reverse "
    "array_reverse_sort array_select array_slice array_sort array_transform array_unique "
    "array_where array_zip element_at filter flatten generate_series len list_any_value "
    "list_append list_apply list_avg list_bool_and list_bool_or list_cat list_concat "
    "list_contains list_cosine_distance list_cosine_similarity list_count list_distance "
    "list_distinct list_dot_product list_element list_extract list_filter list_first "
    "list_grade_up list_has list_has_all list_has_any list_indexof list_inner_product "
    "list_intersect list_last list_max list_median list_min list_position list_prepend "
    "list_product list_reduce list_reverse list_reverse_sort list_select list_slice list_sort "
    "list_stddev_pop list_stddev_samp list_sum list_transform list_unique list_value list_var_pop "
    "list_var_samp list_where list_zip range reduce"
)
FUNCTIONS = ARITHMETIC | COMPARISON | MATH | DATES | TEXT | LISTS
"""The functions and operators of DuckDB that are allowed: all are deterministic."""

WINDOWS = _words(
    "avg bool_and bool_or count cume_dist dense_rank first first_value lag last last_value lead "
    "max mean min nth_value ntile percent_rank rank row_number stddev stddev_pop stddev_samp sum "
    "var_pop var_samp variance"
)
"""The functions that are allowed with OVER: their results are no larger than their arguments."""

ELEMENTS = _words("array_extract element_at list_element list_extract")
LENGTHS = _words("array_length len length")
_IN_LAMBDAS = ARITHMETIC | COMPARISON | MATH | DATES | ELEMENTS | LENGTHS
"""What is allowed for each element of a list, of which there may be many."""

MAPPING = _words(
    "apply array_apply array_reduce array_transform list_apply list_reduce list_transform reduce"
)
"""The functions that make values of what a lambda returns."""

_LIKE = frozenset({"~~", "!~~", "~~*", "!~~*"})
_JOINS = _words(
    "|| array_append array_cat array_concat array_prepend array_zip concat list_append list_cat "
    "list_concat list_prepend list_zip"
)
_RANGES = frozenset({"generate_series", "range"})

_NUMBERS = _words(
    "bigint bool boolean decimal double float float4 float8 hugeint int int1 int2 int4 int8 "
    "integer logical long numeric real short signed smallint tinyint ubigint uhugeint uinteger "
    "usmallint utinyint"
)
_TIMES = frozenset(
    {
        "date", "datetime", "interval", "time", "timestamp", "timestamp with time zone",
        "timestamp_ms", "timestamp_ns", "timestamp_s", "timestamp_us", "timestamptz",
    }
)  # fmt: skip
TEXTS = frozenset({"char", "string", "text", "varchar"})


def name_of(node: Tree) -> str:
    """Returns the name of a node's function in small letters, "" if it has none."""
    return str(node.get("function_name") or "").lower()


def refusal(node: Tree, *, in_lambda: bool = False) -> str:
    """Says why one node of an expression is not allowed; "" if it is.

    Args:
        node: the node; its children are not looked at, except where they bound it.
        in_lambda: whether it is evaluated for each element of a list.
    """
    kind = str(node["class"])
    if kind not in _NODES or (kind == "OPERATOR" and node["type"] not in _OPERATORS):
        named = node["type"] if kind == "OPERATOR" else kind
        return f"{str(named).lower()} is not allowed in a trigger"
    if in_lambda and (kind in ("LAMBDA", "WINDOW") or node["type"] == "ARRAY_SLICE"):
        return f"{kind.lower()} is not allowed in a lambda"
    if kind == "CAST":
        return _cast_refusal(node["type_expr"], in_lambda)
    if kind in ("FUNCTION", "WINDOW"):
        return _function_refusal(node, in_lambda)
    return ""


def _function_refusal(node: Tree, in_lambda: bool) -> str:
    name = name_of(node)
    arguments = [argument["expression"] for argument in node.get("arguments", ())]
    if node.get("schema") or node.get("catalog"):
        return f"{name} is called on something; write {name}(...) with it between the brackets"
    if name not in (WINDOWS if node["class"] == "WINDOW" else FUNCTIONS):
        return (
            f"function {name!r} is not allowed in a trigger; "
            "transforms/triggers/allowed.py lists those that are"
        )
    if in_lambda and name not in _IN_LAMBDAS:
        return f"function {name!r} is not allowed in a lambda"
    if name in _LIKE and not (len(arguments) == 2 and _is_plain_pattern(arguments[1])):
        return f"the pattern of LIKE must be a text with at most {MAX_WILDCARDS} % before its end"
    if name in _RANGES and not all(map(_is_small, arguments)):
        return f"{name}: its bounds must be whole numbers up to {MAX_RANGE:,}, or len(x) + 1"
    return ""


def _is_plain_pattern(node: Tree) -> bool:
    text = _constant(node, "STRING")
    return text is not None and text.rstrip("%").count("%") <= MAX_WILDCARDS


def _is_small(node: Tree) -> bool:
    """Tells whether a number is a small constant, or the length of something that is there."""
    if name_of(node) in ("+", "-"):
        return all(_is_small(argument["expression"]) for argument in node["arguments"])
    if name_of(node) in LENGTHS:
        return True
    text = _constant(node, "INTEGER")
    return text is not None and len(text) < 20 and abs(int(text, 0)) <= MAX_RANGE


def _constant(node: Tree, kind: str) -> str | None:
    literal = node.get("literal", {})
    return str(literal["text"]) if literal.get("kind") == kind else None


def _cast_refusal(type_: Tree, in_lambda: bool) -> str:
    name = str(type_.get("type_name", "")).lower()
    allowed = _NUMBERS | _TIMES if in_lambda else _NUMBERS | _TIMES | TEXTS
    if name == "list" and not in_lambda:
        # Not of texts: brackets, quotes and escapes in a text of a list of them would add up.
        allowed = _NUMBERS | _TIMES
        name = str(type_["children"][0].get("type_name", "")).lower()
    if name not in allowed:
        where = "a lambda" if in_lambda else "a trigger"
        return f"a cast to {name} is not allowed in {where}; choose one of: {', '.join(_SHOWN)}"
    return ""


_SHOWN = ("boolean", "integer", "bigint", "double", "varchar", "date", "time", "timestamp_ns")


def oversize(tree: Tree, timed: frozenset[str]) -> str:
    """Says which limit an expression exceeds; "" if none.

    Args:
        tree: the whole expression.
        timed: the names of the functions of time.
    """
    nodes = list(_nodes(tree))
    if len(nodes) > MAX_NODES:
        return f"has {len(nodes)} parts; at most {MAX_NODES} are allowed"
    called = [name_of(node) for node in nodes]
    calls = sum(name in timed for name in called)
    if calls > MAX_TIMED:
        return f"calls functions of time {calls} times; at most {MAX_TIMED} are allowed"
    ranges = sum(name in _RANGES for name in called)
    if ranges > MAX_RANGES:
        return f"has {ranges} ranges; at most {MAX_RANGES} are allowed"
    joins = [node for node, name in zip(nodes, called, strict=True) if name in _JOINS]
    joined = sum(len(node["arguments"]) - 1 for node in joins)
    if joined > MAX_JOINS:
        return f"joins texts or lists {joined} times; at most {MAX_JOINS} are allowed"
    return ""


def _nodes(tree: Any) -> Iterator[Tree]:
    if isinstance(tree, list):
        for part in tree:
            yield from _nodes(part)
    elif isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for part in tree.values():
            yield from _nodes(part)


def brackets(text: str) -> int:
    """Returns how deep the brackets of a text are nested, those in its quotes too.

    >>> brackets("a[b(c) + d(e)]")
    2
    """
    depth = deepest = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth = max(depth - 1, 0)
    return deepest
