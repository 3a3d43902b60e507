"""`fleetmill query`: answers SQL over the lake."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from jobs.answers import SHAPES, Format, write_answer
from jobs.options import AsJson, LakeUrl
from pipeline.lake.tables import Lake
from pipeline.queries import load_query
from pipeline.queries.catalog import MEMORY, TIMEOUT_S, Limits, ask
from schemas.errors import UsageError

ROWS = 100

_LONGEST_S = 1_000_000
_LEAST, _MOST = 64 * 10**6, 10**15


def query(
    sql: Annotated[
        str | None,
        typer.Argument(metavar="SQL", show_default=False, help="One SELECT over the views."),
    ] = None,
    *,
    lake: LakeUrl,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="A named query instead; see `fleetmill list queries`."
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the flag is --format
        Format, typer.Option("--format", help="The format of the output.")
    ] = Format.TABLE,
    rows: Annotated[
        int, typer.Option("--rows", metavar="N", min=0, help="Rows of a table; 0 shows all.")
    ] = ROWS,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", help="A query that takes longer is ended.")
    ] = TIMEOUT_S,
    memory: Annotated[
        str,
        typer.Option("--memory", metavar="SIZE", help="A query that needs more memory is ended."),
    ] = f"{MEMORY // 10**9}GB",
    json: AsJson = False,
) -> None:
    """Ask the lake in SQL.

    Every table of the lake is a view of its name, every corpus NAME the views
    NAME_samples and NAME_labels. Only these can be read, and nothing can be written.

        fleetmill query --lake L "SELECT trigger, count(*) FROM events GROUP BY 1"
    """
    if (sql is None) == (name is None):
        raise UsageError("give either one SQL statement or --name")
    if not 0 < timeout <= _LONGEST_S:
        raise UsageError(f"--timeout {timeout:g}: must be above 0 and at most {_LONGEST_S:,} s")
    limits = Limits(timeout, _bytes(memory))
    text = load_query(name) if name is not None else sql or ""
    form = Format.JSON if json else format
    keep = rows or None if form is Format.TABLE else None
    with ask(Lake.open(lake), text, limits, shape=SHAPES[form], keep=keep) as answer:
        write_answer(answer, form)


def _bytes(size: str) -> int:
    """Reads a size such as 2GB.

    >>> _bytes("512MB")
    512000000
    """
    try:
        number = int(TypeAdapter(ByteSize).validate_python(size))
    except (ValidationError, OverflowError):
        number = 0
    if not _LEAST <= number <= _MOST:
        raise UsageError(f"--memory {size}: must be a size from 64MB to 1PB, such as 2GB")
    return number
