"""DuckDB for the SQL of strangers: bounded memory, no files but those allowed, an end in time.

DuckDB's own limit of memory counts what its operators hold, not what a single function call
allocates, and an interruption waits for the call that is running. So a caller either allows
only functions that stay small (transforms.triggers.allowed), or runs in a process that can be
killed (pipeline.queries.child).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Self

import duckdb

_CONFIG = {
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}

_AGAIN_S = 0.05
"""An interruption between two statements is lost, so it is repeated."""


def connect(
    threads: int | None = None,
    memory: int | None = None,
    *,
    spill: str = "",
    max_spill: int = 0,
    max_depth: int = 1000,
) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB in memory that loads no extension; `lock` must follow.

    Args:
        threads: None: one for each core.
        memory: limit in bytes. None: DuckDB's own, 80 % of the machine's.
        spill: a folder for what does not fit in the memory, which SQL can read. "": none, and a
            statement that needs more memory fails.
        max_spill: limit of what is in that folder, in bytes.
        max_depth: limit on how deep an expression may be nested.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        **_CONFIG,
        "temp_directory": "",
        "max_expression_depth": max_depth,
    }
    if threads is not None:
        config["threads"] = threads
    if memory is not None:
        config["memory_limit"] = f"{memory}B"
    con = duckdb.connect(":memory:", config=config)
    if spill:  # the limit has no effect if it is a part of the configuration
        con.execute(f"SET temp_directory = {literals([spill])}")
        con.execute(f"SET max_temp_directory_size = '{max_spill}B'")
    # Else hours and days depend on where a worker runs.
    con.execute("SET TimeZone = 'UTC'")
    # Else a statement of more than two seconds draws a bar on stdout.
    con.execute("SET enable_progress_bar_print = false")
    return con


def shut(con: duckdb.DuckDBPyConnection, files: Iterable[str] = ()) -> None:
    """Takes the access to files and networks away, except to read `files`."""
    con.execute(f"SET allowed_paths = [{literals(files)}]")
    con.execute("SET enable_external_access = false")


def lock(con: duckdb.DuckDBPyConnection) -> None:
    """Makes the configuration final."""
    con.execute("SET lock_configuration = true")


def literals(values: Iterable[str]) -> str:
    """Writes texts as literals of SQL, with commas between.

    >>> literals(["a", "it's"])
    "'a', 'it''s'"
    """
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def identifier(name: str) -> str:
    """Quotes a name.

    >>> print(identifier('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


class TimeLimit:
    """Interrupts the statements of a connection that run when a time is over.

        with TimeLimit(con, 30.0) as limit:
            con.execute(...)     # raises duckdb.InterruptException, or what Arrow makes of it
            limit.check()        # raises it too, between statements

    Args:
        con: the connection.
        seconds: the limit.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, seconds: float) -> None:
        self._con = con
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._interrupt, name="time limit", daemon=True)
        self.struck = False

    def __enter__(self) -> Self:
        """Starts the time."""
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        """Stops the time."""
        self._ended.set()
        self._thread.join()

    def check(self) -> None:
        """Raises a duckdb.InterruptException if the time is over."""
        if self.struck:
            raise duckdb.InterruptException("Interrupted!")

    def _interrupt(self) -> None:
        wait = min(self._seconds, threading.TIMEOUT_MAX)
        while not self._ended.wait(wait):
            self.struck = True
            self._con.interrupt()
            wait = _AGAIN_S
