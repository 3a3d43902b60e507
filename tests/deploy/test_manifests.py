"""The manifests: right by the published schemas, and right about each other."""

from __future__ import annotations

import copy
import json
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.exceptions import TyperException

from tests import fetch
from tests.deploy.shipped import (
    FLINK,
    KUBERNETES,
    check_command,
    documents,
    driver,
    job_server,
    options,
    task_manager_pod,
    the,
    worker_pool,
)


def plain() -> list[Any]:
    """Every object that Kubernetes itself knows: the pods of the TaskManagers, too."""
    found = [(name, doc) for name, doc in documents() if "flink" not in doc["apiVersion"]]
    found.append(("cluster.yaml", task_manager_pod()))
    return [pytest.param(doc, id=f"{name}-{doc['kind']}") for name, doc in found]


def keys(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields where the keys of a document are, but for free ones such as labels."""
    if isinstance(node, Mapping):
        for key, below in node.items():
            yield (*path, key)
            free = {"labels", "matchLabels", "flinkConfiguration", "requests", "limits"}
            if key not in free and (*path, key) != ("spec", "selector"):
                yield from keys(below, (*path, key))
    elif isinstance(node, list):
        for place, below in enumerate(node):
            yield from keys(below, (*path, place))


def misspelt(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Copies a document with one key written wrong."""
    copied = copy.deepcopy(document)
    node: Any = copied
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}x"] = node.pop(path[-1])
    return copied


@pytest.mark.parametrize("document", plain())
def test_kubernetes_takes_every_object(document: dict[str, Any]) -> None:
    """By the strict schemas of the oldest and the newest Kubernetes that we speak of."""
    for version in KUBERNETES:
        assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("document", plain())
def test_kubernetes_refuses_every_misspelling(document: dict[str, Any]) -> None:
    """Of every key of every object, so that the test above is worth something."""
    for path in keys(document):
        if path in {("kind",), ("apiVersion",)}:
            continue
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(misspelt(document, path), KUBERNETES[0], strict=True)


def test_who_calls_whom_is_there() -> None:
    """Addresses, ports, accounts and secrets name what another manifest makes."""
    service, cluster = the("Service"), the("FlinkDeployment")
    server, run = options(job_server()["args"]), driver()["args"]
    beam = options(run[run.index("--") + 1 :])
    ports = {port["name"]: str(port["port"]) for port in service["spec"]["ports"]}
    name = service["metadata"]["name"]
    # The operator names a cluster's REST service after it.
    assert server["flink-master"] == f"{cluster['metadata']['name']}-rest:8081"
    assert beam["job_endpoint"] == f"{name}:{ports['jobs']}"
    assert beam["artifact_endpoint"] == f"{name}:{ports['artifacts']}"
    assert (server["job-port"], server["artifact-port"]) == (ports["jobs"], ports["artifacts"])
    opened = {port["name"]: str(port["containerPort"]) for port in job_server()["ports"]}
    assert opened == ports
    pods = the("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == pods
    pool = options(worker_pool()["args"])
    assert beam["environment_config"] == f"localhost:{pool['service_port']}"
    assert str(worker_pool()["startupProbe"]["tcpSocket"]["port"]) == pool["service_port"]
    account = the("ServiceAccount")["metadata"]["name"]
    settings = cluster["spec"]["flinkConfiguration"]
    assert settings["kubernetes.taskmanager.service-account"] == account
    assert the("Job")["spec"]["template"]["spec"]["serviceAccountName"] == account
    assert driver()["envFrom"] == worker_pool()["envFrom"]
    assert driver()["image"] == worker_pool()["image"]
    assert job_server()["image"] == cluster["spec"]["image"]
    (policy,) = the("Job")["spec"]["podFailurePolicy"]["rules"]
    assert policy["onExitCodes"]["containerName"] == driver()["name"]


def test_the_run_fits_the_workers() -> None:
    """Slots and cores agree, and a run's parallelism fills whole TaskManagers."""
    settings = the("FlinkDeployment")["spec"]["flinkConfiguration"]
    slots = int(settings["taskmanager.numberOfTaskSlots"])
    assert worker_pool()["resources"]["requests"]["cpu"] == str(slots)
    assert settings["taskmanager.memory.network.max"] == f"{128 * slots}m"
    arguments = driver()["args"]
    assert int(options(arguments[arguments.index("--") + 1 :])["parallelism"]) % slots == 0
    (scratch,) = task_manager_pod()["spec"]["volumes"]
    limit = worker_pool()["resources"]["limits"]["ephemeral-storage"]
    assert scratch["emptyDir"]["sizeLimit"] == limit


def test_the_run_is_a_command_that_exists() -> None:
    """Its flags are those of `fleetmill run` and of Beam; a misspelt one is found."""
    arguments = driver()["args"]
    assert driver()["command"] == ["fleetmill"]
    check_command(arguments)
    with pytest.raises(TyperException):
        check_command([arguments[0], "--inputs=drives", *arguments[1:]])
    with pytest.raises(ValueError, match="--job_endpoit"):
        check_command([*arguments, "--job_endpoit=server:8099"])


def test_no_secret_is_written_down() -> None:
    """Credentials come by account or Secret: no container sets a variable itself."""
    for container in (driver(), worker_pool(), job_server()):
        assert "env" not in container
    assert "Secret" not in {document["kind"] for _, document in documents()}


def test_java_is_opened_alike_everywhere() -> None:
    """Flink and the job server open the same packages of Java's base module."""
    opened = the("FlinkDeployment")["spec"]["flinkConfiguration"]["env.java.opts.all"].split()
    assert [part for part in job_server()["command"] if "--add-opens" in part] == opened


def closed(schema: Any) -> Any:
    """Makes a schema of a custom resource refuse what it does not name.

    Kubernetes drops unknown fields of such an object in silence, so its schema need not
    say that there are none.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(part) for key, part in schema.items()}
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not open_to_all:
        made.setdefault("additionalProperties", False)
    return made


@pytest.fixture(scope="module")
def flink_deployment() -> Any:
    """The schema of a FlinkDeployment that the operator's own jar holds."""
    jar = fetch.operator_api()
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    # The parser in C, where there is one: half a megabyte takes the other one seconds.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(text, Loader=loader)  # noqa: S506 - either is a safe one
    document = the("FlinkDeployment")
    group, _, version = document["apiVersion"].partition("/")
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == (
        group,
        document["kind"],
    )
    (served,) = [v for v in definition["spec"]["versions"] if v["name"] == version]
    schema = closed(served["schema"]["openAPIV3Schema"])
    # Every object has these, and no schema of a custom resource lists them.
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    return schema


@pytest.mark.flink
def test_the_operator_takes_the_cluster(flink_deployment: Any) -> None:
    """By its published schema, in which a misspelling of any key is refused."""
    validator = jsonschema.Draft202012Validator(flink_deployment)
    document = the("FlinkDeployment")
    assert [error.message for error in validator.iter_errors(document)] == []
    tried = [path for path in keys(document) if path[0] == "spec" and len(path) > 1]
    assert len(tried) > 30
    for path in tried:
        assert not validator.is_valid(misspelt(document, path)), path


@pytest.mark.flink
def test_flink_knows_every_setting() -> None:
    """Flink passes over a misspelt setting in silence, so their names are looked up in it."""
    (jar,) = fetch.flink().glob("flink-dist-*.jar")
    with zipfile.ZipFile(jar) as archive:
        names = [name for name in archive.namelist() if name.endswith("Options.class")]
        code = b"".join(archive.read(name) for name in names)
    settings = the("FlinkDeployment")["spec"]["flinkConfiguration"]
    assert [key for key in settings if f"{key}".encode() not in code] == []
    assert b"taskmanager.memory.networks.max" not in code


@pytest.mark.flink
def test_flink_makes_the_pod_that_is_meant(tmp_path: Path) -> None:
    """Flink's own code turns template and settings into a TaskManager's pod.

    It never restarts a pod, so the pool has to come out as a sidecar that is restarted, and
    the memory has to add up in Flink's own sum.
    """
    cluster = the("FlinkDeployment")["spec"]
    settings = {
        **cluster["flinkConfiguration"],
        # What the operator itself makes of the rest of the manifest.
        "kubernetes.cluster-id": "fleetmill",
        "kubernetes.container.image.ref": cluster["image"],
        "kubernetes.service-account": cluster["serviceAccount"],
        "taskmanager.memory.process.size": cluster["taskManager"]["resource"]["memory"],
        "kubernetes.taskmanager.cpu.amount": cluster["taskManager"]["resource"]["cpu"],
        "taskmanager.rpc.port": 6122,
    }
    (tmp_path / "config.yaml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()))
    (tmp_path / "template.yaml").write_text(json.dumps(task_manager_pod()))
    command = [
        *("java", "--add-opens=java.base/java.util=ALL-UNNAMED", "-cp", f"{fetch.flink()}/*"),
        str(Path(__file__).with_name("TaskManagerPod.java")),
        *(str(tmp_path), str(tmp_path / "template.yaml")),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pod = yaml.safe_load(done.stdout)
    assert pod["spec"]["restartPolicy"] == "Never"
    (pool,) = pod["spec"]["initContainers"]
    assert pool == worker_pool()
    assert pool["restartPolicy"] == "Always"
    assert pod["spec"]["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
    (main,) = pod["spec"]["containers"]
    assert main["name"] == "flink-main-container"
    assert main["resources"]["limits"]["memory"] == "2048Mi"
    assert f"taskmanager.memory.network.max={256 << 20}b" in main["args"][-1]
    assert "taskmanager.numberOfTaskSlots=2" in main["args"][-1]
    kubernetes_validate.validate(pod, KUBERNETES[0], strict=True)


def test_the_files_are_all_read() -> None:
    """No manifest lies where the tests do not look."""
    assert {path.name for path in FLINK.parent.rglob("*.y*ml")} == {n for n, _ in documents()}
