"""What three providers of hosted models ask of a server: where it listens, its routes, and the form of a request and of an error.

- SageMaker, https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html: port 8080, GET /ping, POST
  /invocations, an answer within 60 s, SIGKILL 30 s after SIGTERM; the port is another one where SAGEMAKER_BIND_TO_PORT says so.
- Vertex AI, https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements: port and routes in AIP_HTTP_PORT,
  AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE, `instances` and `parameters` come, `predictions` go, 1.5 MB at most.
- Azure Machine Learning, https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container: a container's own port
  and routes, which its environment names (`inference_config`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from whet.errors import ServerError
from whet.server.refusals import Refusal

ROUTE = re.compile(r"/[A-Za-z0-9._~:/@-]*")
MIB = 2**20


def _ours(refusal: Refusal) -> dict[str, Any]:
    return refusal.body()


GOOGLE = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def _google(refusal: Refusal) -> dict[str, Any]:
    """Return `{"error": {code, message, status}}`, https://cloud.google.com/apis/design/errors#http_mapping."""
    kind = GOOGLE.get(refusal.status, "INTERNAL" if refusal.status >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": refusal.status, "message": refusal.body()["error"]["message"], "status": kind}}


def _amazon(refusal: Refusal) -> dict[str, Any]:
    """Return `{code, type, message}`, as Amazon's own containers answer; InvokeEndpoint hands it on in OriginalMessage."""
    kind = HTTPStatus(refusal.status).phrase.title().replace(" ", "")
    return {"code": refusal.status, "type": f"{kind}Exception", "message": refusal.body()["error"]["message"]}


@dataclass(frozen=True, slots=True)
class Contract:
    """One provider's."""

    keys: tuple[str, ...]
    """Under which of a body's keys the instances may stand."""
    port: int
    predict: str
    health: str
    error: Callable[[Refusal], dict[str, Any]]
    variables: Mapping[str, str]
    """Which of `port`, `predict` and `health` the provider sets, and in which variable."""
    takes: tuple[str, ...] = ("application/json",)
    answer_s: float | None = None
    """Seconds after which nobody waits for an answer any longer."""
    max_body_bytes: int = MIB


CONTRACTS: Mapping[str, Contract] = {
    "sagemaker": Contract(
        keys=("instances", "inputs"),
        port=8080,
        predict="/invocations",
        health="/ping",
        error=_amazon,
        variables={"port": "SAGEMAKER_BIND_TO_PORT"},
        takes=("application/json", "text/csv"),
        answer_s=59.0,
        max_body_bytes=6 * MIB,
    ),
    "vertex": Contract(
        keys=("instances",),
        port=8080,
        predict="/predict",
        health="/health",
        error=_google,
        variables={"port": "AIP_HTTP_PORT", "predict": "AIP_PREDICT_ROUTE", "health": "AIP_HEALTH_ROUTE"},
        max_body_bytes=1_500_000,
    ),
    "azureml": Contract(
        keys=("data", "input_data", "instances"),
        port=5001,
        predict="/score",
        health="/health",
        error=_ours,
        variables={},
    ),
}


@dataclass(frozen=True, slots=True)
class Agreed:
    """A contract with what the provider has set filled in."""

    name: str
    contract: Contract
    port: int
    predict: str
    health: str


def agree(name: str, environment: Mapping[str, str]) -> Agreed:
    """Return a provider's contract as its environment has it. Raises ServerError."""
    contract = CONTRACTS.get(name)
    if contract is None:
        raise ServerError(f"'{name}' is no provider's contract. Allowed: {', '.join(CONTRACTS)}.")
    found: dict[str, str] = {}
    for key in ("port", "predict", "health"):
        variable = contract.variables.get(key)
        value = (environment.get(variable, "") if variable else "") or str(getattr(contract, key))
        if key == "port" and not (value.isdecimal() and 0 < int(value) < 65536):
            raise ServerError(f"the variable {variable} is '{value[:40]}'; allowed: a port from 1 to 65535.")
        if key != "port" and not ROUTE.fullmatch(value):
            raise ServerError(f"the variable {variable} is '{value[:80]}'; allowed: a path that begins with /.")
        found[key] = value
    if found["predict"] == found["health"]:
        raise ServerError(f"both routes are '{found['health']}'. Give them different paths.")
    return Agreed(name, contract, int(found["port"]), found["predict"], found["health"])
