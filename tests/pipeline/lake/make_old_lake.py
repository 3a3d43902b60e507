"""Makes the lake of `old_lake.tar.gz`, which every later version has to open.

    python -m tests.pipeline.lake.make_old_lake OUT.tar.gz

The archive in the repository was made by the first version whose lakes are kept readable; it is
made again only to keep one more version. The paths are the same on every machine.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from jobs import cli
from tests.weights import needed

DRIVES = ("--drives", "1", "--minutes", "0.1", "--size", "32x32", "--cameras", "front")
CORPUS = ("--corpus", "old", "--topology", "dojo-tray")


def make(archive: Path) -> None:
    """Runs every job on one drive with video, and ingests one without."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FLEETMILL_MODELS"] = str(needed())
        _run("synth", "drives/a", *DRIVES, "--seed", "3")
        _run("synth", "drives/b", "--drives", "1", "--minutes", "0.1", "--no-video", "--seed", "4")
        _run("run", "--input", "drives/a", "--lake", "lake", "--sweep-fps", "1", *CORPUS)
        _run("ingest", "--input", "drives/b", "--lake", "lake")
        with tarfile.open(archive, "w:gz") as out:
            out.add("lake", filter=_anonymous)


def _run(*arguments: str) -> None:
    if cli.main(arguments) != 0:
        sys.exit(f"fleetmill {' '.join(arguments)} failed")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
