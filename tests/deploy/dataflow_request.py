"""Builds the request that Beam's Dataflow runner would send, without sending it.

Run with Beam's options as arguments in an environment with `apache-beam[gcp]`; prints one JSON
document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.graph.execute import build
from pipeline.graph.journal import Journal
from pipeline.graph.stage import TaskResult
from pipeline.lake.tables import Lake
from pipeline.stages.mine import MineStage
from transforms.triggers import load_triggers

LAKE = "gs://example-fleet/lake"
PAGES = ("000000",)


def finish(results: Iterable[TaskResult]) -> bool:
    """Takes the place of a job's last step."""
    return any(results)


def build_job(root: beam.Pipeline, pages: Sequence[str] = PAGES) -> None:
    """Builds the graph of a mining job; its lake need not exist."""
    stage = MineStage(tuple(load_triggers(())))
    build(root, Lake(LAKE), Journal(LAKE, "run"), pages=pages, stage=stage, finish=finish)


def main(arguments: Sequence[str]) -> None:
    """Prints the parts of the request that the tests check."""
    # Not at the top: only the environment of this script has it.
    from apache_beam.runners.dataflow.dataflow_runner import DataflowRunner  # noqa: PLC0415
    from apache_beam.runners.dataflow.internal import apiclient  # noqa: PLC0415

    options = PipelineOptions([*arguments, "--dry_run=true", "--no_auth"], save_main_session=False)
    # A pipeline made with the Dataflow runner would check its buckets.
    root = beam.Pipeline("DirectRunner")
    build_job(root)
    job = DataflowRunner().run_pipeline(root, options).job
    sent = apiclient.Environment(
        packages=[],
        options=options,
        environment_version=apiclient._FNAPI_ENVIRONMENT_MAJOR_VERSION,
        proto_pipeline_staged_url="gs://example-fleet/staging/pipeline.pb",
        proto_pipeline=job.proto_pipeline,
    ).proto
    (pool,) = sent.worker_pools
    (image,) = pool.sdk_harness_container_images
    components = job.proto_pipeline.components
    (top,) = job.proto_pipeline.root_transform_ids
    steps = [components.transforms[step] for step in components.transforms[top].subtransforms]
    found = {
        "image": image.container_image,
        "machine_type": pool.machine_type,
        "threads": pool.num_threads_per_worker,
        "max_workers": pool.autoscaling_settings.max_num_workers,
        "packages": list(pool.packages),
        "account": sent.service_account_email,
        "experiments": list(sent.experiments),
        "service_options": list(sent.service_options),
        "steps": [step.unique_name for step in steps],
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
