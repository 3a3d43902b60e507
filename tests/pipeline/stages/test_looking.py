"""What sweep and label do in a child process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.stages.label import LabelStage, LabelTask, plan_label
from pipeline.stages.sweep import SweepStage, SweepTask, plan_sweep
from tests.conftest import ROOT
from tests.pipeline.stages.conftest import LABEL, Small
from tests.pipeline.stages.test_sweep import SWEEP
from transforms.isolation import close_idle
from transforms.timing import recording

IMPORTS = "import sys; import pipeline.stages.looking, pipeline.stages.recording_rows"


def test_a_child_does_not_import_beam() -> None:
    program = f"{IMPORTS}; print('apache_beam' in sys.modules, 'deltalake' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("seconds", [1e-3, 900.0])
def test_an_event_that_takes_too_long_is_tried_again(mined: Small, seconds: float) -> None:
    config = LABEL.model_copy(update={"input_timeout_s": seconds})
    work = plan_label(mined.lake(), config)
    stage, task = work.stage, work.tasks[0]
    assert isinstance(stage, LabelStage)
    assert isinstance(task, LabelTask)
    output = stage.process(task)
    late = seconds < 1
    assert {reject.reason for reject in output.rejects} == ({"timeout"} if late else set())
    assert len(output.done) == (0 if late else 1)


def test_pictures_that_need_too_much_memory_cost_their_event(mined: Small) -> None:
    config = LABEL.model_copy(update={"input_memory_gb": 5e-5})
    work = plan_label(mined.lake(), config)
    assert isinstance(work.stage, LabelStage)
    assert isinstance(work.tasks[0], LabelTask)
    close_idle()  # a child that labelled before may need no more memory
    output = work.stage.process(work.tasks[0])
    assert {reject.reason for reject in output.rejects} == {"memory"}
    assert {done.outcome for done in output.done} == {"rejected"}
    assert "needs more memory than the 5e-05 GB" in output.rejects[0].detail


def test_the_steps_of_a_child_are_those_of_its_task(mined: Small) -> None:
    work = plan_sweep(mined.lake(), SWEEP)
    assert isinstance(work.stage, SweepStage)
    assert isinstance(work.tasks[0], SweepTask)
    with recording() as times:
        work.stage.process(work.tasks[0])
    assert times.nanoseconds()["decode"] > 0
    assert times.nanoseconds()["measure"] > 0
