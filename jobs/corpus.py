"""Declares `fleetmill corpus`: samples to an immutable snapshot of shards."""

from __future__ import annotations

from jobs.job import Job, StageRun
from jobs.options import TOPOLOGIES, TOPOLOGY, Flag
from jobs.results import snapshot_result
from pipeline.config import CorpusConfig
from pipeline.stages.corpus import plan_corpus
from pipeline.stages.render import plan_render
from pipeline.stages.repack import plan_repack
from pipeline.topologies import load_topology

NAME = Flag(
    "NAME",
    in_run=Flag(
        "--corpus", "NAME", key="name", help="Build this corpus at the end.", requests=True
    ),
)


def _check(config: CorpusConfig) -> tuple[str, ...]:
    load_topology(config.topology, config.topologies)
    return ()


CORPUS = Job(
    name="corpus",
    help="""Build an immutable snapshot of shards for a training machine.

    The same samples, split and machine give the same bytes and the same root hash.
    --where sees the columns of events, and vehicle_id, platform, format, log_name, payload,
    cameras, privacy and duration_ns.

        fleetmill corpus brakes --lake L --topology dojo-tray --where "trigger = 'hard_brake'"
    """,
    config=CorpusConfig,
    flags=(
        NAME,
        TOPOLOGY,
        TOPOLOGIES,
        Flag("--where", "SQL"),
        Flag("--where-timeout", "S", key="where_timeout_s"),
        Flag("--payload"),
        Flag("--privacy", "NAME"),
        Flag("--labels"),
        Flag("--lead", "NAME"),
        Flag("--val-fraction", "F"),
    ),
    stages=(
        # Samples are encoded as clips: another payload is made from these first.
        StageRun("repack", plan_repack, when=lambda config: config.payload == "frames"),
        StageRun("render", plan_render, when=lambda config: config.labels != "auto"),
        StageRun("corpus", plan_corpus),
    ),
    check=_check,
    show=snapshot_result,
)
corpus = CORPUS.command()
