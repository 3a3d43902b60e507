"""docs/deploy.md: local commands run, and those that need a service are parsed."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from pipeline.graph import journal
from pipeline.stages import ingest, mine, repack
from tests import fetch
from tests.conftest import ROOT, Fleetmill
from tests.deploy.shipped import check_command, service_commands
from tests.pages import commands

PAGE = ROOT / "docs" / "deploy.md"
TEXT = PAGE.read_text("utf-8")

PROGRAMS = {"docker", "fleetmill", "go", "java", "kubectl", "mvn", "python"}


@pytest.mark.parametrize("line", service_commands(), ids=lambda line: line[:40])
def test_commands_for_a_service_are_valid(line: str) -> None:
    """Our and Beam's flags exist, and so do the files."""
    program, *arguments = shlex.split(line)
    assert program in PROGRAMS
    if program == "fleetmill":
        check_command(arguments)
    for word in [word.removeprefix("@") for word in arguments]:
        if word.startswith("deploy/"):
            assert (ROOT / word).exists(), word


def test_a_misspelt_option_is_found() -> None:
    """In any of the page's fleetmill commands, for our and for Beam's options."""
    lines = [line for line in service_commands() if line.startswith("fleetmill ")]
    assert len(lines) == 4
    for line in lines:
        words = shlex.split(line)[1:]
        for place, word in enumerate(words):
            if not word.startswith("--") or word == "--":
                continue
            flag, equals, value = word.partition("=")
            wrong = [*words[:place], f"{flag}x{equals}{value}", *words[place + 1 :]]
            with pytest.raises(Exception, match=re.escape(flag)):
                check_command(wrong)


@pytest.mark.slow
def test_commands_for_one_machine_work(tmp_path: Path, fleetmill: Fleetmill) -> None:
    """In the page's order; the test of the image runs those that package."""
    lines = [line for line in commands(PAGE) if line.startswith("fleetmill ")]
    assert len(lines) == 6
    for line in lines:
        done = fleetmill(*shlex.split(line)[1:], cwd=tmp_path)
        assert done.code == 0, f"{line}\n{done.out}\n{done.err}"
    assert len(commands(PAGE)) == len(lines) + 3


def test_the_page_names_every_file_of_deploy() -> None:
    """Each file or its folder is named, and the named ones exist."""
    named = set(re.findall(r"deploy/[\w./-]*\w", TEXT))
    for name in named:
        assert (ROOT / name).exists(), name
    for path in fetch.DEPLOY.rglob("*"):
        if path.is_file():
            folders = {str(path.relative_to(ROOT)), str(path.parent.relative_to(ROOT))}
            assert folders & named, path


def test_the_numbers_are_those_of_the_code() -> None:
    """Sizes of tasks, pages of tasks, and the versions in the table."""
    rows = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|", TEXT, re.M))
    assert rows["ingest"] == f"{ingest.TASK_LOGS} logs or {ingest.TASK_BYTES >> 20} MiB of input"
    assert rows["mine"] == f"{mine.TASK_LOGS} logs or {mine.TASK_NS // 3600 // 10**9} driven hours"
    assert rows["label"] == "one event"
    assert rows["repack"] == f"{repack.TASK_CLIPS} clips"
    assert f"pages of {journal.PAGE_TASKS} tasks" in TEXT
    assert f"{fetch.PRISM}@v{metadata.version('apache-beam')}\n" in TEXT
    flink, spark = ((fetch.DEPLOY / name / "pom.xml").read_text() for name in ("flink", "spark"))
    for runner, version in re.findall(r"^\| \w+ [\d.]+, Beam's (runner) ([\d.]+)", TEXT, re.M):
        assert f"<beam.{runner}.version>{version}<" in flink
        assert f"<beam.{runner}.version>{version}<" in spark
    (version,) = re.findall(r"^\| Spark ([\d.]+)", TEXT, re.M)
    assert f"<spark.version>{version}<" in spark
    (version,) = re.findall(r"^\| Flink ([\d.]+)", TEXT, re.M)
    assert f"FROM flink:{version}-" in (fetch.DEPLOY / "flink" / "Dockerfile").read_text()


@pytest.mark.parametrize("section", ["Flink on Kubernetes", "Dataflow", "Spark"])
def test_a_section_on_an_untested_service_says_so(section: str) -> None:
    """In the first words of its section."""
    (body,) = re.findall(rf"^## {section}\n\n(.*?)(?=^## )", TEXT, re.M | re.S)
    assert body.startswith(("*Untested on that service.*", "*Untested on a cluster.*"))
