"""Writes commits of Delta tables: each is one object, put where none is yet.

delta-rs would read a table's log before and after every commit: twenty requests on an object
store, and the state of every file in memory. Our runs are applied one after the other, so the
version that comes next is known. Reading logs, checkpoints and changes of a schema stay with
delta-rs.

The format is that of https://github.com/delta-io/delta/blob/master/PROTOCOL.md, reader version
1 and writer version 2: plain tables, without partitions, constraints or deletion vectors.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from deltalake import Schema

from schemas.ids import canonical
from schemas.records import AddFile
from schemas.tables import FORMAT, TABLES
from transforms.storage import put_new

FORMAT_KEY = "fleetmill.format"
"""The property of the table `runs` that holds the lake's format; format 1 had none."""

CHECKPOINT_COMMITS = 10
"""A reader replays at most so many commits after a table's last checkpoint."""

Action = Mapping[str, Mapping[str, Any]]
"""A line of a commit: the kind of an action, and its fields."""


def properties(table: str) -> dict[str, str]:
    """Returns Delta's properties of a table."""
    chosen = {
        "delta.checkpointInterval": str(CHECKPOINT_COMMITS),
        # The version that the last run names must stay readable, which only compaction checks.
        "delta.enableExpiredLogCleanup": "false",
    }
    if table == "runs":
        chosen[FORMAT_KEY] = str(FORMAT)
    return chosen


def created(table: str, by: str, at_ms: int) -> list[Action]:
    """Returns the first actions of version 0 of a table.

    Args:
        table: a name in TABLES.
        by: who creates it: equal arguments give equal bytes.
        at_ms: when, in milliseconds since 1970.
    """
    metadata = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"fleetmill {table} {by}")),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": Schema.from_arrow(TABLES[table].schema).to_json(),
        "partitionColumns": [],
        "configuration": properties(table),
        "createdTime": at_ms,
    }
    return [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]


def transaction(application: str, version: int, at_ms: int) -> list[Action]:
    """Returns the actions that say which run made a commit."""
    said = {"timestamp": at_ms, "operation": "WRITE", "operationParameters": {"mode": "Append"}}
    txn = {"appId": application, "version": version, "lastUpdated": at_ms}
    return [{"commitInfo": said | {"engineInfo": application}}, {"txn": txn}]


def added(file: AddFile, at_ms: int) -> Action:
    """Returns the action that adds a file."""
    return {
        "add": {
            "path": file.path,
            "partitionValues": {},
            "size": file.size,
            "modificationTime": at_ms,
            "dataChange": True,
            "stats": file.stats or json.dumps({"numRecords": file.rows}),
        }
    }


def removed(path: str, at_ms: int) -> Action:
    """Returns the action that removes a file."""
    return {"remove": {"path": path, "deletionTimestamp": at_ms, "dataChange": True}}


def put_commit(table_url: str, version: int, actions: Iterable[Action]) -> bool:
    """Writes a commit, unless another one has its version; returns whether it is there."""
    content = io.BytesIO()
    for number, action in enumerate(actions):
        content.write(b"\n" + canonical(action) if number else canonical(action))
    return put_new(f"{table_url}/_delta_log/{version:020d}.json", content.getvalue())
