"""The push that is killed: what the benchmark does with 5,000 tasks, with fewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.review_push import interrupted, write_tasks
from tests.label_studio import running


@pytest.mark.review
def test_a_push_that_is_killed_twice_and_resumed_sends_each_task_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = 900
    write_tasks(tmp_path / "tasks", number)
    with running(tmp_path / "server") as server:
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", server.token)
        assert interrupted(server, tmp_path / "tasks", number) == (number, number)
