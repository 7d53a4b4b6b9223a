"""The server against its own OpenAPI document: whatever schemathesis makes of it, sound or not, is answered as the document says.

With INTERLOCK_RELIABILITY=full each operation gets hundreds of requests instead of some.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.served import Served, served, write_student
from hypothesis import HealthCheck, given, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own, at import
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS

pytestmark = pytest.mark.train

EXAMPLES = 300 if os.environ.get("INTERLOCK_RELIABILITY") == "full" else 12
OPERATIONS = ("POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models", "GET /v1/models/{name}", "GET /health", "GET /metrics")
# Of a GET nothing is sent that could be wrong: any text is a name.
ASKED = [(label, mode) for label in OPERATIONS for mode in GenerationMode if label.startswith("POST") or mode is GenerationMode.POSITIVE]
# A sound body may still be refused: fields have rules between them that no schema of fields has, and there is one model.
LEFT_OUT = ("positive_data_acceptance",)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Few positions, so that no answer is long."""
    with served(write_student(tmp_path_factory.mktemp("models") / "student", max_position=48)) as running:
        yield running


@pytest.fixture(scope="module")
def operations(server: Served) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return {one.ok().label: one.ok() for one in schema.get_all_operations()}


def test_every_operation_is_asked(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize(("label", "mode"), ASKED, ids=str)
def test_what_is_answered_is_in_the_document(server: Served, operations: dict[str, Any], label: str, mode: GenerationMode) -> None:
    checks = [check for check in CHECKS.get_all() if check.__name__ not in LEFT_OUT]

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operations[label].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = {**case.body, "model": "student"}
        response = case.call(base_url=server.url, timeout=60)
        case.validate_response(response, checks=checks)

    ask()
    assert server.process.poll() is None
