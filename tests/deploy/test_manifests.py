"""The manifests: valid by the published schemas, and consistent with each other."""

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
    """Returns the objects of kinds of Kubernetes itself, and the TaskManagers' pod."""
    found = [(name, doc) for name, doc in documents() if "flink" not in doc["apiVersion"]]
    found.append(("cluster.yaml", task_manager_pod()))
    return [pytest.param(doc, id=f"{name}-{doc['kind']}") for name, doc in found]


def keys(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the paths of the keys of a document, without arbitrary ones such as labels."""
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
    """Copies a document with one key misspelt."""
    copied = copy.deepcopy(document)
    node: Any = copied
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}x"] = node.pop(path[-1])
    return copied


@pytest.mark.parametrize("document", plain())
def test_kubernetes_accepts_every_object(document: dict[str, Any]) -> None:
    """By the strict schemas of the oldest and the newest version."""
    for version in KUBERNETES:
        assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("document", plain())
def test_kubernetes_rejects_every_misspelling(document: dict[str, Any]) -> None:
    """Shows that the test above can fail, for every key of every object."""
    for path in keys(document):
        if path in {("kind",), ("apiVersion",)}:
            continue
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(misspelt(document, path), KUBERNETES[0], strict=True)


def test_names_and_ports_agree_between_manifests() -> None:
    """Addresses, ports, accounts, secrets and images."""
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


def test_resources_of_run_and_workers_agree() -> None:
    """Slots equal cores, and a run's parallelism is a multiple of a TaskManager's slots."""
    settings = the("FlinkDeployment")["spec"]["flinkConfiguration"]
    slots = int(settings["taskmanager.numberOfTaskSlots"])
    assert worker_pool()["resources"]["requests"]["cpu"] == str(slots)
    assert settings["taskmanager.memory.network.max"] == f"{128 * slots}m"
    arguments = driver()["args"]
    assert int(options(arguments[arguments.index("--") + 1 :])["parallelism"]) % slots == 0
    (scratch,) = task_manager_pod()["spec"]["volumes"]
    limit = worker_pool()["resources"]["limits"]["ephemeral-storage"]
    assert scratch["emptyDir"]["sizeLimit"] == limit


def test_the_command_of_the_run_is_valid() -> None:
    """By the flags of `fleetmill run` and of Beam; a misspelt one is found."""
    arguments = driver()["args"]
    assert driver()["command"] == ["fleetmill"]
    check_command(arguments)
    with pytest.raises(TyperException):
        check_command([arguments[0], "--inputs=drives", *arguments[1:]])
    with pytest.raises(ValueError, match="--job_endpoit"):
        check_command([*arguments, "--job_endpoit=server:8099"])


def test_no_manifest_holds_a_secret() -> None:
    """Credentials come by account or Secret: no container sets a variable itself."""
    for container in (driver(), worker_pool(), job_server()):
        assert "env" not in container
    assert "Secret" not in {document["kind"] for _, document in documents()}


def test_java_opens_the_same_packages_everywhere() -> None:
    opened = the("FlinkDeployment")["spec"]["flinkConfiguration"]["env.java.opts.all"].split()
    assert [part for part in job_server()["command"] if "--add-opens" in part] == opened


def closed(schema: Any) -> Any:
    """Makes a schema of a custom resource reject unknown fields.

    Kubernetes drops unknown fields of such an object silently, so the published schema does not
    forbid them.
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
    """The schema of a FlinkDeployment from the operator's jar."""
    jar = fetch.operator_api()
    with zipfile.ZipFile(jar) as archive:
        text = archive.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml")
    # The parser in C, if there is one: the other takes seconds for half a megabyte.
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
    # Every object has these, but schemas of custom resources do not list them.
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    return schema


@pytest.mark.flink
def test_the_operator_accepts_the_cluster(flink_deployment: Any) -> None:
    """By its published schema, which rejects a misspelling of any key."""
    validator = jsonschema.Draft202012Validator(flink_deployment)
    document = the("FlinkDeployment")
    assert [error.message for error in validator.iter_errors(document)] == []
    tried = [path for path in keys(document) if path[0] == "spec" and len(path) > 1]
    assert len(tried) > 30
    for path in tried:
        assert not validator.is_valid(misspelt(document, path)), path


@pytest.mark.flink
def test_flink_knows_every_setting() -> None:
    """Flink ignores a misspelt setting silently, so the names are looked up in its classes."""
    (jar,) = fetch.flink().glob("flink-dist-*.jar")
    with zipfile.ZipFile(jar) as archive:
        names = [name for name in archive.namelist() if name.endswith("Options.class")]
        code = b"".join(archive.read(name) for name in names)
    settings = the("FlinkDeployment")["spec"]["flinkConfiguration"]
    assert [key for key in settings if f"{key}".encode() not in code] == []
    assert b"taskmanager.memory.networks.max" not in code


@pytest.mark.flink
def test_flink_makes_the_intended_pod(tmp_path: Path) -> None:
    """Flink's own code makes a TaskManager's pod of template and settings.

    Flink never restarts a pod, so the pool has to be a sidecar that Kubernetes restarts, and the
    memory has to add up by Flink's own rules.
    """
    cluster = the("FlinkDeployment")["spec"]
    settings = {
        **cluster["flinkConfiguration"],
        # What the operator derives from the rest of the manifest.
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


def test_every_manifest_is_read() -> None:
    assert {path.name for path in FLINK.parent.rglob("*.y*ml")} == {n for n, _ in documents()}
