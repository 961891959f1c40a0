"""What the server answers when it does not do what was asked, in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

import pydantic

from whet.plugins import allowed

LONGEST_MESSAGE = 600


class Refusal(Exception):
    """A request that is answered with an error. The message says what was found, what is allowed, and what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return `{"error": {message, type, param, code}}`."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else kinds.get(self.status, "invalid_request_error")
        message = str(self).encode("utf-8", "backslashreplace").decode()[:LONGEST_MESSAGE]
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Return what goes into the head of the answer besides."""
        found = {} if self.retry_after_s is None else {"retry-after": str(self.retry_after_s)}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


def wrong_value(error: pydantic.ValidationError, names: frozenset[str]) -> Refusal:
    """Return the refusal for the first value that is not allowed; `names` are the keys that a caller may have written."""
    found = error.errors(include_url=False, include_context=False)
    # of a value with several allowed types, the type that came closest has the longest way in
    first = max(found, key=lambda item: len(item["loc"])) if len({item["loc"][:1] for item in found}) == 1 else found[0]
    param = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in names)
    if first["type"] == "missing":
        return Refusal(400, f"'{param}' is missing.", param=param, code="missing_required_parameter")
    if first["type"] == "extra_forbidden":
        param = ".".join([*([param] if param else []), str(first["loc"][-1])[:80]])
        return Refusal(400, f"'{param}' is no key that this endpoint knows. Leave it out.", param=param, code="unknown_parameter")
    rules = [allowed(item["msg"]) for item in found if item["loc"][:1] == first["loc"][:1]]
    if not param:  # the body as a whole, whose keys do not go together
        return Refusal(400, f"the request's body: allowed is {' or '.join(dict.fromkeys(rules))}.", code="invalid_value")
    value = repr(first["input"])
    shown = value if len(value) <= 80 else f"{value[:80]} ..."
    return Refusal(400, f"'{param}' is {shown}; allowed: {' or '.join(dict.fromkeys(rules))}.", param=param, code="invalid_value")
