"""Kubernetes."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from whet.bundle.image import (
    HOME,
    IGNORED,
    STATE,
    USER,
    BaseImage,
    Cpus,
    Device,
    Grace,
    Image,
    Memory,
    Port,
    base_image,
    dockerfile,
)
from whet.bundle.subject import PATHS, RUN, Entry, Subject, flag, offline
from whet.errors import RecipeError
from whet.plugins import plugin

LEAVE_S = 5
"""Seconds before SIGTERM, until every node has heard that the pod takes nothing new."""
SLACK_S = 5


@plugin
class Kubernetes:
    """Deployment, Service, ConfigMap, NetworkPolicy and a volume for the log, and the image's Dockerfile. Kubernetes API v1, apps/v1.

    After the restricted Pod Security Standard, https://kubernetes.io/docs/concepts/security/pod-security-standards/, and
    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ for probes and the end of a pod.
    """

    image: Image = "auto"
    """The image's name and tag, with the registry that the cluster pulls from; auto: a name without one, for a local cluster."""
    base_image: BaseImage = "auto"
    """What it is built on; auto: Python's own slim image, at the version that the packages are locked for."""
    device: Device = "cpu"
    """cuda: one NVIDIA GPU for each pod."""
    port: Port = 8000
    """Port of the server in its pod; the Service's is 80."""
    replicas: int = Field(default=1, ge=1, le=1000)
    """Pods that answer at a time."""
    log: Literal["auto", "claim", "pod"] = "auto"
    """Where the request log lies. claim: a volume that outlives the pod, for one replica; pod: with each pod it goes.

    auto: claim for one replica, else pod."""
    storage_gib: int = Field(default=2, ge=1, le=65_536)
    """Size of the volume."""
    cpus: Cpus = 2.0
    """CPU cores of a pod; the server takes as many threads."""
    memory_mib: Memory = "auto"
    """Memory of a pod in MiB; auto: from the number of the model's weights."""
    max_requests: int = Field(default=64, ge=1)
    """Requests that a pod takes at a time; more are answered with 429."""
    grace_s: Grace = 30.0
    """Seconds that what runs may take to end when a pod is stopped; the pod gets ten more."""

    def __post_init__(self) -> None:
        if self.log == "claim" and self.replicas > 1:
            raise RecipeError(
                f"targets 'kubernetes': log is 'claim' with {self.replicas} replicas, and one volume holds the log of one server. "
                "Allowed: log=pod, or replicas=1."
            )

    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write Dockerfile, .dockerignore and kubernetes.yaml beside the run."""
        command = subject.serve(
            f"{HOME}/{RUN}", *flag("host", "0.0.0.0"), *flag("port", self.port), *flag("log", f"{STATE}/requests.sqlite"),
            *flag("max-requests", self.max_requests), *flag("grace", self.grace_s),
        )  # fmt: skip
        environment, name = offline(self.cpus), subject.slug
        image = subject.tag if self.image == "auto" else self.image
        text = dockerfile(
            subject, command, environment,
            base=base_image(self.base_image, subject), device=self.device, port=self.port, health="/health",
        )  # fmt: skip
        (folder / "Dockerfile").write_text(text, encoding="utf-8")
        (folder / ".dockerignore").write_text(IGNORED, encoding="utf-8")
        parts = [
            self._config(name, environment),
            *([self._claim(name)] if self._claims else []),
            self._deployment(subject, name, image),
            self._service(name),
            self._policy(name),
        ]
        (folder / "kubernetes.yaml").write_text("---\n".join(parts), encoding="utf-8")
        return Entry(
            command=command,
            environment=environment,
            folders={f"{HOME}/{RUN}": RUN},
            writes=(STATE,),
            secrets=("WHET_API_KEY",),
            port=self.port,
            predict=PATHS[subject.endpoint],
            request=subject.request(),
            stop_s=self.grace_s + SLACK_S,
            commands=(
                f"docker build --tag {image} . && docker push {image}",
                "export WHET_API_KEY=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')",
                f'kubectl create secret generic {name} --from-literal=api-key="$WHET_API_KEY" && kubectl apply --filename kubernetes.yaml '
                f"&& kubectl rollout status deployment/{name} --timeout=10m",
                f"kubectl port-forward service/{name} {self.port}:80 & sleep 3; "
                f'curl --fail http://127.0.0.1:{self.port}{PATHS[subject.endpoint]} -H "Authorization: Bearer $WHET_API_KEY" '
                "-H 'content-type: application/json' --data @smoke.json",
            ),
        )

    @property
    def _claims(self) -> bool:
        return self.log == "claim" or (self.log == "auto" and self.replicas == 1)

    def _config(self, name: str, environment: dict[str, str]) -> str:
        values = "".join(f'  {key}: "{value}"\n' for key, value in environment.items())
        return f"""apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: {name}}}
data:
{values}"""

    def _claim(self, name: str) -> str:
        return f"""apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}-requests
  labels: {{app.kubernetes.io/name: {name}}}
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: {self.storage_gib}Gi
"""

    def _deployment(self, subject: Subject, name: str, image: str) -> str:
        memory = subject.memory_mib if self.memory_mib == "auto" else self.memory_mib
        gpu = "\n              nvidia.com/gpu: 1" if self.device == "cuda" else ""
        size = f"{{sizeLimit: {self.storage_gib}Gi}}"
        log = f"persistentVolumeClaim: {{claimName: {name}-requests}}" if self._claims else f"emptyDir: {size}"
        # a volume of one server cannot be handed from the old pod to the new one while both run
        strategy = (
            "type: Recreate" if self._claims else "type: RollingUpdate\n    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}"
        )
        return f"""apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: {name}}}
  annotations:
    whet/run: "{subject.run}"
    whet/model-sha256: "{subject.model_sha256}"
spec:
  replicas: {self.replicas}
  strategy:
    {strategy}
  selector:
    matchLabels: {{app.kubernetes.io/name: {name}}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: {name}}}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {round(LEAVE_S + self.grace_s + SLACK_S)}
      securityContext:
        runAsNonRoot: true
        runAsUser: {USER}
        runAsGroup: {USER}
        fsGroup: {USER}
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {{type: RuntimeDefault}}
      containers:
        - name: server
          image: "{image}"
          imagePullPolicy: IfNotPresent
          envFrom:
            - configMapRef: {{name: {name}}}
          env:
            - name: WHET_API_KEY
              valueFrom:
                secretKeyRef: {{name: {name}, key: api-key}}
          ports:
            - name: http
              containerPort: {self.port}
          startupProbe:
            httpGet: {{path: /ready, port: http}}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 120
          readinessProbe:
            httpGet: {{path: /ready, port: http}}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          livenessProbe:
            httpGet: {{path: /health, port: http}}
            periodSeconds: 15
            timeoutSeconds: 5
            failureThreshold: 4
          lifecycle:
            preStop:
              exec: {{command: ["sleep", "{LEAVE_S}"]}}
          resources:
            requests:
              cpu: "{self.cpus:g}"
              memory: {memory}Mi{gpu}
            limits:
              cpu: "{self.cpus:g}"
              memory: {memory}Mi{gpu}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {{drop: [ALL]}}
          volumeMounts:
            - {{name: requests, mountPath: {STATE}}}
            - {{name: tmp, mountPath: /tmp}}
      volumes:
        - name: requests
          {log}
        - name: tmp
          emptyDir: {{sizeLimit: 1Gi}}
"""

    def _service(self, name: str) -> str:
        return f"""apiVersion: v1
kind: Service
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: {name}}}
spec:
  selector: {{app.kubernetes.io/name: {name}}}
  ports:
    - {{name: http, port: 80, targetPort: http}}
"""

    def _policy(self, name: str) -> str:
        return f"""# pods of this namespace may ask it, and it may ask nobody
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {name}
  labels: {{app.kubernetes.io/name: {name}}}
spec:
  podSelector:
    matchLabels: {{app.kubernetes.io/name: {name}}}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {{}}
      ports:
        - {{protocol: TCP, port: {self.port}}}
  egress: []
"""
