"""Reads Dockerfiles, so that their steps can be run where there is no Docker."""

from __future__ import annotations

from pathlib import Path

from dockerfile_parse import DockerfileParser


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Reads the instructions of a Dockerfile and their values, continued lines joined."""
    with dockerfile.open("rb") as file:
        found = DockerfileParser(fileobj=file, cache_content=True).structure
    return [(i["instruction"], i["value"]) for i in found if i["instruction"] != "COMMENT"]
