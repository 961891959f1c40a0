"""Azure Machine Learning."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from whet.bundle.image import HOME, BaseImage, Cpus, Device, base_image, dockerfile
from whet.bundle.managed import GRACE_S, IGNORED, STOP_S, machine
from whet.bundle.subject import RUN, Entry, Subject, flag, offline, script
from whet.plugins import plugin

PORT, HEALTH, READY, PREDICT = 5001, "/health", "/ready", "/score"
SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
SIZES = ((5.5, "Standard_DS2_v2"), (12.0, "Standard_DS3_v2"), (26.0, "Standard_DS4_v2"), (54.0, "Standard_DS5_v2"))
LARGEST = "Standard_E16s_v3"
MOUNT = "/var/azureml-app/azureml-models"
VARIABLE = "AZUREML_MODEL_DIR"


@plugin
class AzureMl:
    """A managed online endpoint with a container of its own: endpoint.yml, deployment.yml, and the image that is built there.

    https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container and
    https://learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online
    """

    base_image: BaseImage = "auto"
    """What the image is built on; auto: Python's own slim image, at the version that the packages are locked for."""
    device: Device = "cpu"
    """cuda: torch's own wheels for NVIDIA, and a machine with a GPU."""
    instance_type: Annotated[str, Field(pattern=r"^(auto|Standard_[A-Za-z0-9_]+)$")] = "auto"
    """Kind of machine; auto: the smallest general one with the memory that the model needs."""
    instances: int = Field(default=1, ge=1, le=1000)
    """Machines."""
    cpus: Cpus = 2.0
    """CPU cores of that machine: the server takes as many threads."""
    max_requests: int = Field(default=64, ge=1, le=1000)
    """Requests that a machine takes at a time."""
    timeout_s: float = Field(default=60.0, ge=1, le=180)
    """How long Azure waits for an answer; 180 s at most."""

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write Dockerfile, entry.py, endpoint.yml and deployment.yml beside the run."""
        name = subject.slug[:32].strip("-")
        options = (
            "--contract", "azureml", *flag("port", PORT), "--no-log",
            *flag("max-requests", self.max_requests), *flag("grace", GRACE_S),
        )  # fmt: skip
        environment, command = offline(self.cpus), ("python", f"{HOME}/entry.py")
        text = dockerfile(
            subject, command, environment, base=base_image(self.base_image, subject), device=self.device, port=PORT, health=HEALTH,
            with_run=False, with_volume=False, extra="COPY entry.py ./entry.py",
        )  # fmt: skip
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        (folder / ".dockerignore").write_text(IGNORED, encoding="utf-8")
        entry = script(subject.serve(MOUNT, *options), variable=VARIABLE)
        (folder / "entry.py").write_text(entry, encoding="utf-8")
        (folder / "endpoint.yml").write_text(
            f"$schema: {SCHEMAS}/managedOnlineEndpoint.schema.json\nname: {name}\nauth_mode: key\n", encoding="utf-8"
        )
        (folder / "deployment.yml").write_text(self._deployment(subject, name), encoding="utf-8")
        return Entry(
            command=command,
            environment={**environment, VARIABLE: f"{MOUNT}/{name}/1"},
            folders={f"{MOUNT}/{name}/1/{RUN}": RUN, f"{HOME}/entry.py": "entry.py"},
            port=PORT,
            health=HEALTH,
            ready=READY,
            predict=PREDICT,
            request=subject.instances("data"),
            stop_s=STOP_S,
            commands=(
                "az ml online-endpoint create --file endpoint.yml",
                "az ml online-deployment create --file deployment.yml --all-traffic",
                f"az ml online-endpoint invoke --name {name} --request-file smoke.json",
            ),
            files={
                "endpoint.yml": "the endpoint, which asks for a key of its own",
                "deployment.yml": "the model, the image, its routes and the machines",
            },
            notes=(
                "The commands take the workspace that `az configure --defaults group=GROUP workspace=WORKSPACE` has set.",
                f"The model is uploaded and mounted by Azure, which says where in {VARIABLE}; the image is built in the workspace.",
                'It takes `{"data": [...], "parameters": {...}}`, or `input_data` in its place, and answers `{"predictions": [...]}`.',
            ),
        )

    def _deployment(self, subject: Subject, name: str) -> str:
        return f"""$schema: {SCHEMAS}/managedOnlineDeployment.schema.json
name: main
endpoint_name: {name}
tags:
  run: "{subject.run}"
  model_sha256: "{subject.model_sha256}"
model:
  name: {name}
  version: "1"
  type: custom_model
  path: ./{RUN}
environment:
  name: {name}
  version: "1"
  build:
    path: .
    dockerfile_path: Dockerfile
  inference_config:
    liveness_route:
      path: {HEALTH}
      port: {PORT}
    readiness_route:
      path: {READY}
      port: {PORT}
    scoring_route:
      path: {PREDICT}
      port: {PORT}
instance_type: {self._instance(subject)}
instance_count: {self.instances}
request_settings:
  request_timeout_ms: {round(self.timeout_s * 1000)}
  max_concurrent_requests_per_instance: {self.max_requests}
liveness_probe:
  initial_delay: 60
  period: 15
  timeout: 5
  success_threshold: 1
  failure_threshold: 30
readiness_probe:
  initial_delay: 10
  period: 10
  timeout: 5
  success_threshold: 1
  failure_threshold: 60
"""

    def _instance(self, subject: Subject) -> str:
        if self.instance_type != "auto":
            return self.instance_type
        if self.device == "cuda":
            return "Standard_NC4as_T4_v3"
        return machine(subject, SIZES, LARGEST)
