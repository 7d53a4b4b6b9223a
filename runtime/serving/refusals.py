"""Errors as the OpenAI interface tells them: a status, and `{"error": {message, type, param, code}}`.

Here: the form, and which status each of our errors has. Not here: where they are found.
Source: platform.openai.com/docs/guides/error-codes, and the client's own classes for statuses (openai 3, `_exceptions.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from interlock.errors import InterlockError, UsageError
from runtime.engine.scheduler import QueueFull


class Refused(InterlockError):
    """An answer other than 200. param: the field that is wrong, as `messages[0].role`; headers: of the answer."""

    title = "refused"

    def __init__(
        self, status: int, problem: str, *, remedy: str, param: str | None = None, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(problem, remedy=remedy)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})

    def document(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": f"{self.problem}: {self.remedy}", "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.document(), status_code=self.status, headers=self.headers)


def refused(error: InterlockError) -> Refused:
    """An error of the engine: 400 for what the request asks, 429 for too many at a time, 500 for the rest."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, QueueFull):
        return Refused(429, error.problem, remedy=error.remedy, code="queue_full", headers={"Retry-After": "1"})
    status = 400 if isinstance(error, UsageError) else 500
    return Refused(status, error.problem, remedy=error.remedy)
