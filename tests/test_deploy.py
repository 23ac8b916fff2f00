"""The files of deploy/ agree with the locks and with each other.

Linters, schemas and the Job of a run are in `tests_deploy`, which `make schemas` runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dagster._cli.api import grpc_command

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def locked(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def values(content: Any, key: str) -> Iterator[Any]:
    """Everything that stands under a key, however deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from values(value, key)


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_versions_are_those_of_the_locks() -> None:
    own, ray = locked(DEPLOY / "requirements.lock"), locked(ROOT / "requirements-ray.lock")
    run = locked(ROOT / "requirements.lock")
    assert not own.keys() & (run.keys() | ray.keys())
    dev = locked(ROOT / "requirements-dev.lock")  # `make schemas` installs both
    assert all(own[name] == dev[name] for name in own.keys() & dev.keys())
    dagster = run["dagster"].split(".")  # the integrations count from 0.16 where Dagster is at 1.0
    assert own["dagster-k8s"] == own["dagster-postgres"] == f"0.{int(dagster[1]) + 16}.{dagster[2]}"
    assert read("kubernetes/ray-cluster.yaml")["spec"]["rayVersion"] == ray["ray"]
    setup, image = (ROOT / "scripts" / "setup.sh").read_text(), (DEPLOY / "Dockerfile").read_text()
    torch = setup.split("TORCH=torch==")[1].split()[0]
    assert f"ARG TORCH={torch}\n" in image


def test_nothing_is_retried_by_any_orchestrator() -> None:
    assert read("dagster.yaml")["run_retries"] == {"enabled": False, "max_retries": 0}
    daemon = read("kubernetes/dagster-values.yaml")["dagsterDaemon"]
    assert daemon["runRetries"] == {"enabled": False, "maxRetries": 0}
    assert daemon["runMonitoring"]["maxResumeRunAttempts"] == 0


def test_workers_have_the_image_and_the_folders_of_the_runs() -> None:
    cluster = read("kubernetes/ray-cluster.yaml")
    (run,) = read("kubernetes/dagster-values.yaml")["dagster-user-deployments"]["deployments"]
    image = f"{run['image']['repository']}:{run['image']['tag']}"
    assert set(values(cluster, "image")) == {image}
    (workers,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert run["volumeMounts"] == [{"name": "private-zone", "mountPath": "/project"}]
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "private-zone"]
    assert {mount["subPath"] for mount in mounts} == {"data", "private", "models"}
    assert all(m["mountPath"] == f"/project/{m['subPath']}" for m in mounts)
    assert [m["subPath"] for m in mounts if not m.get("readOnly")] == ["private"]
    assert workers["maxReplicas"] == workers["minReplicas"]  # of one kind, and all at once


def test_dagster_takes_the_arguments_of_the_code_location() -> None:
    (run,) = read("kubernetes/dagster-values.yaml")["dagster-user-deployments"]["deployments"]
    # The chart puts `dagster api grpc` with the port before them.
    given = ["-h", "0.0.0.0", "-p", str(run["port"]), *run["dagsterApiGrpcArgs"]]
    parsed = grpc_command.make_context("grpc", given).params
    assert parsed["module_name"] == "dagster_project.orchestration.definitions"


def test_the_image_takes_no_data_and_no_key() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines and not taken & {"data", "ledger", "private", "models", "releases", "."}


def test_ports_are_open_to_this_machine_alone_and_passwords_are_not_written() -> None:
    services = read("compose.yaml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    written = [str(v) for v in values(services, "POSTGRES_PASSWORD")]
    assert written and all(text.startswith("${POSTGRES_PASSWORD") for text in written)
