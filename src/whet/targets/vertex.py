"""Google Vertex AI."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from whet.bundle.image import HOME, IGNORED, BaseImage, Cpus, Device, Image, base_image, dockerfile
from whet.bundle.managed import GRACE_S, STOP_S, machine
from whet.bundle.subject import RUN, Entry, Subject, flag, offline
from whet.plugins import plugin

SIZES = ((6.0, "n1-standard-2"), (13.0, "n1-standard-4"), (28.0, "n1-standard-8"), (58.0, "n1-standard-16"))
LARGEST = "n1-standard-32"
PORT, HEALTH, PREDICT = 8080, "/health", "/predict"


@plugin
class Vertex:
    """An image with the model in it that keeps Vertex AI's contract, and the commands that make an endpoint of it.

    https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """

    image: Image = "auto"
    """The image's name in Artifact Registry; auto: one with words to be replaced by yours."""
    base_image: BaseImage = "auto"
    """What it is built on; auto: Python's own slim image, at the version that the packages are locked for."""
    device: Device = "cpu"
    """cuda: torch's own wheels for NVIDIA, and a machine with one L4."""
    machine_type: Annotated[str, Field(pattern=r"^(auto|[a-z0-9]+-[a-z0-9-]+)$")] = "auto"
    """Kind of machine; auto: the smallest general one with the memory that the model needs."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Machines at least."""
    max_replicas: int = Field(default=1, ge=1, le=1000)
    """Machines at most; where it is below `replicas`, as many as that."""
    cpus: Cpus = 2.0
    """CPU cores of that machine: the server takes as many threads."""
    max_requests: int = Field(default=64, ge=1)
    """Requests taken at a time; more are answered with 429."""

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write Dockerfile and .dockerignore beside the run."""
        name = subject.slug
        image = f"REGION-docker.pkg.dev/PROJECT/REPOSITORY/{subject.tag}" if self.image == "auto" else self.image
        command = subject.serve(
            f"{HOME}/{RUN}", "--contract", "vertex", "--no-log",
            *flag("max-requests", self.max_requests), *flag("grace", GRACE_S),
        )  # fmt: skip
        environment = offline(self.cpus)
        text = dockerfile(
            subject, command, environment,
            base=base_image(self.base_image, subject), device=self.device, port=PORT, health=HEALTH, with_volume=False,
        )  # fmt: skip
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        (folder / ".dockerignore").write_text(IGNORED, encoding="utf-8")
        gpu = " --accelerator=type=nvidia-l4,count=1" if self.device == "cuda" else ""
        return Entry(
            command=command,
            environment=environment,
            folders={f"{HOME}/{RUN}": RUN},
            port=PORT,
            port_variable="AIP_HTTP_PORT",
            health=HEALTH,
            ready=HEALTH,
            predict=PREDICT,
            request=subject.instances("instances"),
            stop_s=STOP_S,
            commands=(
                f"docker build --tag {image} . && docker push {image}",
                f"gcloud ai models upload --region=REGION --model-id={name} --display-name={name} --container-image-uri={image} "
                f"--container-ports={PORT} --container-health-route={HEALTH} --container-predict-route={PREDICT}",
                f"gcloud ai endpoints create --region=REGION --endpoint-id={name} --display-name={name} && gcloud ai endpoints deploy-model "
                f"{name} --region=REGION --model={name} --display-name={name} --machine-type={self._machine(subject)}{gpu} "
                f"--min-replica-count={self.replicas} --max-replica-count={max(self.replicas, self.max_replicas)} --traffic-split=0=100",
                f"gcloud ai endpoints predict {name} --region=REGION --json-request=smoke.json",
            ),
            notes=(
                "Put your own REGION, PROJECT and REPOSITORY into the commands.",
                "The model is in the image, so no artefact is uploaded beside it, and AIP_STORAGE_URI is not read.",
                'It takes `{"instances": [...], "parameters": {...}}` of 1.5 MB at most, and answers `{"predictions": [...]}`.',
            ),
        )

    def _machine(self, subject: Subject) -> str:
        if self.machine_type != "auto":
            return self.machine_type
        if self.device == "cuda":
            return "g2-standard-4"
        return machine(subject, SIZES, LARGEST)
