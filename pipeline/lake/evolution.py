"""Evolution: brings the tables of a lake that an older fleetmill wrote up to date.

Rows stay as they are: readers see null where a file lacks a column.
"""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from deltalake import Schema
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from pipeline.lake.delta_log import properties
from pipeline.lake.remote import ask
from pipeline.lake.tables import Lake
from schemas.errors import LakeError
from schemas.tables import FORMAT, TABLES

_ATTEMPTS = 20


def upgrade(lake: Lake) -> None:
    """Adds the columns that the tables of a lake lack, then raises its format.

    Idempotent, also when two processes do it at once: the format is raised last. The lake is
    pinned to the same versions as before.

    Raises:
        LakeError: a table would not take the change.
    """
    for table in sorted(TABLES, key="runs".__eq__):
        _upgrade_table(lake, table)
    lake.refresh()


def _upgrade_table(lake: Lake, table: str) -> None:
    wanted = properties(table)
    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            delta = lake.delta(table)
        except TableNotFoundError:  # no run has added to it
            return
        known = {field.name for field in delta.schema().fields}
        added = [field for field in TABLES[table].schema if field.name not in known]
        held = ask(lake.url, delta.metadata).configuration
        try:
            if added:
                fields = Schema.from_arrow(pa.schema(added)).fields
                ask(lake.url, partial(delta.alter.add_columns, fields))
            if any(held.get(key) != value for key, value in wanted.items()):
                alter = lake.delta(table).alter
                keep = partial(alter.set_table_properties, wanted, raise_if_not_exists=False)
                ask(lake.url, keep)
        except CommitFailedError as error:  # another process changed the table
            failure = error
        else:
            return
    raise LakeError(
        f"table {table!r} of lake {lake.url} could not be brought to format {FORMAT}: {failure}; "
        "run again"
    ) from failure
