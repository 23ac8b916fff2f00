"""The files of deploy/ against linters, schemas and the code that makes a run's Job from them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from dagster import DagsterInstance, DagsterRun
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.config import dagster_instance_config
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster_k8s import K8sRunLauncher
from kubernetes.client import ApiClient

DEPLOY = Path(__file__).parents[1] / "deploy"
NAMESPACE = "tabimage"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def validate(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", camel).lower()


def test_the_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_compose_file_is_valid_once_a_password_is_stated() -> None:
    def stated(match: re.Match[str]) -> str:
        name, kind, text = match.groups()
        return {"POSTGRES_PASSWORD": "stated"}[name] if kind != ":-" else text

    text = re.sub(r"\$\{(\w+)(:[-?])?([^}]*)\}", stated, (DEPLOY / "compose.yaml").read_text())
    # Dumped again, because the specification's models do not merge YAML's anchors.
    compose = PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))
    compose.validate()
    assert compose.service_names() == ["daemon", "mlflow", "postgres", "webserver"]


def test_dagster_takes_the_instance_of_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("HOST", "postgres"), ("USER", "tabimage"), ("PASSWORD", "stated")):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["storage"]["postgres"]["postgres_db"]["db_name"] == "dagster"


@pytest.mark.parametrize("manifest", documents("kubernetes/private-zone.yaml"))
def test_manifests_hold_to_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    validate(manifest)


def test_pods_of_ray_hold_to_the_schemas_of_kubernetes() -> None:
    (cluster,) = documents("kubernetes/ray-cluster.yaml")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}} | group["template"]
        validate(pod)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The Job that Dagster would ask Kubernetes for, for a run of a release with these values.

    The launcher's configuration and the context of the code location are what the templates of
    Dagster's chart write from the values.
    """
    (values,) = documents("kubernetes/dagster-values.yaml")
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert location["includeConfigInLaunchedRuns"]["enabled"]
    given = values["runLauncher"]["config"]["k8sRunLauncher"]
    (tmp_path / "kubeconfig").write_text(
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}],"
        " clusters: [{name: k, cluster: {server: 'http://localhost'}}],"
        " contexts: [{name: c, context: {cluster: k, user: u}}]}"
    )
    launcher_config = {
        "service_account_name": "dagster",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "dagster_home": values["global"]["dagsterHome"],
        "job_namespace": NAMESPACE,
        "load_incluster_config": False,
        "kubeconfig_file": str(tmp_path / "kubeconfig"),
        "image_pull_policy": given["imagePullPolicy"],
        "run_k8s_config": {snake(key): part for key, part in given["runK8sConfig"].items()},
    }
    context = {
        "image_pull_policy": location["image"]["pullPolicy"],
        "volume_mounts": location["volumeMounts"],
        "volumes": location["volumes"],
        "resources": location["resources"],
        "env": location["env"],
        "namespace": NAMESPACE,
        "service_account_name": "dagster-dagster-user-deployments-user-deployments",
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }
    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("dagster_project.orchestration.definitions", "defs"),
        container_image=f"{location['image']['repository']}:{location['image']['tag']}",
        container_context={"k8s": context},
    )
    server = GrpcServerCodeLocationOrigin("dp-tabimage", 3030, location_name=location["name"])
    run = DagsterRun(
        job_name="release",
        job_code_origin=JobPythonOrigin("release", repository),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(server, "defs"), "release"),
    )
    processed = process_config(K8sRunLauncher.config_type(), launcher_config)
    assert processed.success, processed.errors
    launcher = K8sRunLauncher.from_config_value(None, processed.value)
    asked = Mock()
    monkeypatch.setattr(launcher, "_api_client", asked)
    with DagsterInstance.ephemeral() as instance:
        instance.add_run(run)
        launcher.register_instance(instance)
        # It goes into the command line alone, and an instance in memory has none.
        monkeypatch.setattr(type(instance), "get_ref", lambda _: None)
        launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
    (call,) = asked.create_namespaced_job_with_retries.call_args_list
    assert call.kwargs["namespace"] == NAMESPACE
    yield ApiClient().sanitize_for_serialization(call.kwargs["body"])


def test_the_job_of_a_run_is_valid_and_is_never_started_again(job: dict[str, Any]) -> None:
    validate(job)
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_a_run_reaches_the_shared_volume_and_the_workers(job: dict[str, Any]) -> None:
    claim, policy = documents("kubernetes/private-zone.yaml")
    (cluster,) = documents("kubernetes/ray-cluster.yaml")
    pod = job["spec"]["template"]
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    claimed = volumes["private-zone"]["persistentVolumeClaim"]["claimName"]
    assert claimed == claim["metadata"]["name"]
    (container,) = pod["spec"]["containers"]
    assert {"name": "private-zone", "mountPath": "/project"} in container["volumeMounts"]
    workers = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    assert pod["spec"]["securityContext"] == workers["securityContext"]
    home = (DEPLOY / "Dockerfile").read_text().split("DAGSTER_HOME=")[1].split()[0]
    assert {"name": "DAGSTER_HOME", "value": home} in container["env"]
    labels = pod["metadata"]["labels"]
    allowed = [
        source["podSelector"]["matchLabels"]
        for rule in policy["spec"]["ingress"]
        for source in rule["from"]
        if "podSelector" in source
    ]
    assert any(wanted.items() <= labels.items() for wanted in allowed)
