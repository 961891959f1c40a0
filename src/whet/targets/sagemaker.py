"""Amazon SageMaker."""

import gzip
import json
import shutil
import tarfile
from pathlib import Path
from typing import Annotated

from pydantic import Field

from whet.bundle.image import HOME, BaseImage, Cpus, Device, Image, base_image, dockerfile
from whet.bundle.managed import GRACE_S, IGNORED, STOP_S, machine
from whet.bundle.subject import RUN, Entry, Subject, flag, offline, script
from whet.plugins import plugin

MODEL = "/opt/ml/model"
"""Where SageMaker unpacks model.tar.gz, to be read only."""
AS_ROOT = "SageMaker runs its containers as root, and asks for images that expect it\n# hadolint ignore=DL3002"
SIZES = ((6.5, "ml.m5.large"), (14.0, "ml.m5.xlarge"), (29.0, "ml.m5.2xlarge"), (59.0, "ml.m5.4xlarge"))
LARGEST = "ml.m5.12xlarge"


@plugin
class SageMaker:
    """An image that SageMaker starts with `serve`, model.tar.gz, and the requests that make an endpoint of them.

    https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
    """

    image: Image = "auto"
    """The image's name in ECR; auto: a name without a registry, to be tagged with yours."""
    base_image: BaseImage = "auto"
    """What it is built on; auto: Python's own slim image, at the version that the packages are locked for."""
    device: Device = "cpu"
    """cuda: torch's own wheels for NVIDIA, and an instance with a GPU."""
    instance_type: Annotated[str, Field(pattern=r"^(auto|ml\.[a-z0-9.-]+)$")] = "auto"
    """Kind of machine; auto: the smallest general one with the memory that the model needs."""
    instances: int = Field(default=1, ge=1, le=1000)
    """Machines to begin with."""
    cpus: Cpus = 2.0
    """CPU cores of that machine: the server takes as many threads."""
    max_requests: int = Field(default=64, ge=1)
    """Requests taken at a time; more are answered with 429."""

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write Dockerfile, entry.py, model.tar.gz in place of the run, and the bodies of three requests."""
        name, image = subject.slug, subject.tag if self.image == "auto" else self.image
        options = ("--contract", "sagemaker", "--no-log", *flag("max-requests", self.max_requests), *flag("grace", GRACE_S))
        environment, command = offline(self.cpus), ("python", f"{HOME}/entry.py")
        text = dockerfile(
            subject, command, environment, base=base_image(self.base_image, subject), device=self.device, port=8080, health="/ping",
            with_run=False, with_volume=False, extra="COPY entry.py ./entry.py", as_root=AS_ROOT,
        )  # fmt: skip
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        (folder / ".dockerignore").write_text(IGNORED, encoding="utf-8")
        (folder / "entry.py").write_text(script(subject.serve(MODEL, *options), takes_serve=True), encoding="utf-8")
        _pack(folder / RUN, folder / "model.tar.gz")
        shutil.rmtree(folder / RUN)
        bodies = {
            "model.json": {
                "ModelName": name,
                "ExecutionRoleArn": "arn:aws:iam::ACCOUNT:role/ROLE",
                "PrimaryContainer": {
                    "Image": f"ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image}",
                    "ModelDataUrl": "s3://BUCKET/model.tar.gz",
                },
                "EnableNetworkIsolation": True,
            },
            "endpoint-config.json": {
                "EndpointConfigName": name,
                "ProductionVariants": [
                    {
                        "VariantName": "main",
                        "ModelName": name,
                        "InstanceType": self._instance(subject),
                        "InitialInstanceCount": self.instances,
                        "ContainerStartupHealthCheckTimeoutInSeconds": 600,
                    }
                ],
            },
            "endpoint.json": {"EndpointName": name, "EndpointConfigName": name},
        }
        for file, body in bodies.items():
            (folder / file).write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        return Entry(
            command=(*command, "serve"),
            environment=environment,
            folders={MODEL: "model.tar.gz", f"{HOME}/entry.py": "entry.py"},
            port=8080,
            port_variable="SAGEMAKER_BIND_TO_PORT",
            health="/ping",
            ready="/ping",
            predict="/invocations",
            request=subject.instances("instances"),
            stop_s=STOP_S,
            commands=(
                f"docker build --tag ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image} . && "
                f"docker push ACCOUNT.dkr.ecr.REGION.amazonaws.com/{image} && aws s3 cp model.tar.gz s3://BUCKET/model.tar.gz",
                "aws sagemaker create-model --cli-input-json file://model.json && "
                "aws sagemaker create-endpoint-config --cli-input-json file://endpoint-config.json && "
                "aws sagemaker create-endpoint --cli-input-json file://endpoint.json && "
                f"aws sagemaker wait endpoint-in-service --endpoint-name {name}",
                f"aws sagemaker-runtime invoke-endpoint --endpoint-name {name} --content-type application/json "
                "--body fileb://smoke.json /dev/stdout",
            ),
            files={
                "model.json": "body of create-model: put your account, role, region and bucket in",
                "endpoint-config.json": "body of create-endpoint-config: the kind and number of machines",
                "endpoint.json": "body of create-endpoint",
            },
            notes=(
                "Put your own ACCOUNT, REGION, ROLE and BUCKET into `model.json` and the commands.",
                "The container runs as root, since SageMaker asks for it; the network is closed to it (EnableNetworkIsolation).",
                'It takes JSON, `{"instances": [...], "parameters": {...}}` or `{"inputs": ...}`, and CSV without a header; with '
                "`Accept: text/csv` it answers in CSV.",
                "An answer that takes longer than 59 s becomes a 504: SageMaker waits for 60.",
            ),
        )

    def _instance(self, subject: Subject) -> str:
        if self.instance_type != "auto":
            return self.instance_type
        if self.device == "cuda":
            return "ml.g5.xlarge"
        return machine(subject, SIZES, LARGEST)


def _pack(source: Path, place: Path) -> None:
    """Write a folder's files as .tar.gz, at its top, without times and owners: the same files give the same bytes."""
    with (
        place.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for file in sorted(source.rglob("*")):
            entry = archive.gettarinfo(file, file.relative_to(source).as_posix())
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            entry.mode = 0o755 if entry.isdir() else 0o644
            if entry.isdir():
                archive.addfile(entry)
            else:
                with file.open("rb") as held:
                    archive.addfile(entry, held)
