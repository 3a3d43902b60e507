"""A real Flink cluster on loopback: JVMs, Beam's job server, and pools of Python workers.

Flink's class path is that of our image, the job server starts as in our manifest, and the
workers' environment holds the wheel and no source. As in a pod, each TaskManager has a worker pool
of its own. All of them know it as `worker-pool`, which for each is another loopback address.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.shipped import job_server
from tests.fetch import FlinkParts
from tests.servers import Server, free_ports, grpc_answers, serving, wait_for

PODS = 2
SLOTS = 2
"""Slots of a TaskManager. A job needs as many, so it can run without either pod."""

_LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.name = out
appender.out.type = Console
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} - %m%n
"""
_MEMORY = {
    "taskmanager.cpu.cores": "1.0",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "64m",
    "taskmanager.memory.framework.heap.size": "64m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.managed.size": "128m",
    "taskmanager.memory.network.min": "256m",
    "taskmanager.memory.network.max": "256m",
    "taskmanager.memory.jvm-metaspace.size": "192m",
    "taskmanager.memory.jvm-overhead.min": "128m",
    "taskmanager.memory.jvm-overhead.max": "128m",
}
"""Flink's start script would compute these; the TaskManager's class does not."""


@dataclass(slots=True)
class Pod:
    """A TaskManager and its pool of Python workers, which listens on `host`."""

    host: str
    task_manager: Server
    pool: Server


@dataclass(slots=True)
class Cluster:
    """The processes and ports of a cluster."""

    parts: FlinkParts
    folder: Path
    worker_env: dict[str, str]
    rest_port: int
    job_port: int
    pool_port: int
    pods: list[Pod] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _started: int = 0

    def beam_options(self) -> list[str]:
        """Returns Beam's options for a job on this cluster."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{self.job_port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=worker-pool:{self.pool_port}",
            f"--parallelism={SLOTS}",
        ]

    def rest(self, path: str) -> Any:
        """Sends a request to the JobManager."""
        url = f"http://127.0.0.1:{self.rest_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def jobs(self) -> list[tuple[str, str]]:
        """Returns ids and states of the jobs, in the order of their start."""
        jobs = self.rest("/jobs/overview")["jobs"]
        ordered = sorted(jobs, key=lambda job: job["start-time"])
        return [(job["jid"], job["state"]) for job in ordered]

    def recoveries(self, job: str) -> int:
        """Returns the number of failures after which a job was restarted."""
        history = self.rest(f"/jobs/{job}/exceptions")["exceptionHistory"]
        return len(history["entries"])

    def restart_pool(self, pod: Pod) -> None:
        """Replaces a worker pool that died, as Kubernetes does within a pod."""
        pod.pool = self._start_pool(pod.host)

    def heal(self) -> None:
        """Replaces every pod whose TaskManager died."""
        for pod in [pod for pod in self.pods if pod.task_manager.process.poll() is not None]:
            pod.pool.stop()
            self.pods.remove(pod)
        while len(self.pods) < PODS:
            self.pods.append(self._start_pod())
        # The slots of a TaskManager that died count until its heartbeat times out.
        wait_for(lambda: self.rest("/overview")["slots-available"] == PODS * SLOTS, "free slots")

    def _start_pod(self) -> Pod:
        self._started += 1
        name, host = f"task-manager-{self._started}", f"127.0.1.{self._started}"
        hosts = self.folder / f"{name}.hosts"
        hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n{host} worker-pool\n")
        pool = self._start_pool(host)
        settings = [f"-D{key}={value}" for key, value in _MEMORY.items()]
        server = serving(
            name,
            [
                *self._java(
                    "-Xmx320m",
                    # Network and off-heap memory below, as Flink's own script adds it up.
                    "-XX:MaxDirectMemorySize=448m",
                    "-XX:MaxMetaspaceSize=192m",
                    f"-Djdk.net.hosts.file={hosts}",
                ),
                "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
                "--configDir",
                str(self.folder / "conf"),
                f"-Dtaskmanager.resource-id={name}",
                *settings,
            ],
            self.folder,
            lambda: name in {tm["id"] for tm in self.rest("/taskmanagers")["taskmanagers"]},
        )
        return Pod(host, self._stack.enter_context(server), pool)

    def _start_pool(self, host: str) -> Server:
        self._started += 1
        bin_folder = self.parts.worker / "bin"
        server = serving(
            f"worker-pool-{self._started}",
            [
                str(bin_folder / "python"),
                str(Path(__file__).with_name("pool.py")),
                host,
                f"--service_port={self.pool_port}",
            ],
            self.folder,
            grpc_answers(self.pool_port, host),
            # A pool starts `python` by name.
            **{**self.worker_env, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": ""},
        )
        return self._stack.enter_context(server)

    def _java(self, *options: str) -> list[str]:
        opens = [part for part in job_server()["command"] if part.startswith("--add-opens")]
        return [
            "java",
            *options,
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            f"-Dlog4j.configurationFile={self.folder / 'conf' / 'log4j.properties'}",
            *opens,
            "-cp",
            str(self.parts.lib / "*"),
        ]

    def _start(self) -> None:
        conf = self.folder / "conf"
        conf.mkdir(parents=True)
        (conf / "log4j.properties").write_text(_LOG4J)
        rpc_port, blob_port, artifact_port, expansion_port = free_ports(4)
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.rpc.port": rpc_port,
            "jobmanager.memory.process.size": "900m",
            "blob.server.port": blob_port,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "rest.bind-port": self.rest_port,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": SLOTS,
            "parallelism.default": SLOTS,
            "taskmanager.load-balance.mode": "SLOTS",
            "classloader.resolve-order": "parent-first",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 10,
            "restart-strategy.fixed-delay.delay": "2 s",
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 6000,
            "io.tmp.dirs": self.folder / "flink-tmp",
        }
        lines = "".join(f"{key}: {value}\n" for key, value in settings.items())
        (conf / "config.yaml").write_text(lines)
        job_manager = serving(
            "job-manager",
            [
                *self._java("-Xmx512m"),
                "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
                "--configDir",
                str(conf),
            ],
            self.folder,
            lambda: "taskmanagers" in self.rest("/overview"),
        )
        self._stack.enter_context(job_manager)
        job_server = serving(
            "job-server",
            [
                *self._java("-Xmx512m"),
                "JobServer",
                f"--flink-master=127.0.0.1:{self.rest_port}",
                f"--flink-conf-dir={conf}",
                "--job-host=127.0.0.1",
                f"--job-port={self.job_port}",
                f"--artifact-port={artifact_port}",
                f"--expansion-port={expansion_port}",
                f"--artifacts-dir={self.folder / 'artifacts'}",
            ],
            self.folder,
            grpc_answers(self.job_port),
        )
        self._stack.enter_context(job_server)
        self.heal()


@contextlib.contextmanager
def running(parts: FlinkParts, folder: Path, **worker_env: str) -> Iterator[Cluster]:
    """Runs a cluster until the end of the block.

    Args:
        parts: the result of `fetch.flink_parts`.
        folder: the folder of logs and temporary files.
        worker_env: additional environment variables of the workers.
    """
    rest_port, job_port, pool_port = free_ports(3)
    cluster = Cluster(parts, folder, worker_env, rest_port, job_port, pool_port)
    with cluster._stack:
        cluster._start()
        yield cluster
