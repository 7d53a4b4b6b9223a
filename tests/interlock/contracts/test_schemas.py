"""The published JSON Schemas: in step with the models, true of every golden document, and false where a document is wrong."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from interlock.contracts import io
from interlock.environments import ROOT

SCRIPT = runpy.run_path(str(ROOT / "ci" / "schemas.py"))
FOLDER: Path = SCRIPT["FOLDER"]
GOLDEN = Path(__file__).parent / "golden"
DOCUMENTS = sorted(path for file in io.BY_FILE for path in GOLDEN.rglob(file))


def schema_of(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{document['kind']}.v{document['schema_version']}.json").read_bytes())
    return found


def test_the_schemas_are_what_the_models_say() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob(f"*.v{io.VERSION}.json")}
    assert written == SCRIPT["schemas"](), f"the schemas are out of date: run `{SCRIPT['REPAIR']}`"


@pytest.mark.train
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(GOLDEN).as_posix())
def test_every_golden_document_is_valid_by_its_schema(path: Path) -> None:
    """By the `jsonschema` package, which knows nothing of the models."""
    from jsonschema import Draft202012Validator

    document = json.loads(path.read_bytes())
    schema = schema_of(document)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)


@pytest.mark.train
@pytest.mark.parametrize("path", [path for path in DOCUMENTS if "toy" not in path.parts], ids=lambda path: path.relative_to(GOLDEN).as_posix())
def test_a_schema_refuses_a_document_without_a_field_or_with_another(path: Path) -> None:
    from jsonschema import Draft202012Validator

    document = json.loads(path.read_bytes())
    validator = Draft202012Validator(schema_of(document))
    for field in validator.schema["required"]:
        assert not validator.is_valid({key: value for key, value in document.items() if key != field}), field
    for change in ({"surprise": 1}, {"kind": "teapot"}, {"schema_version": 3}, {"digest": "0"}, {"files": []}, {"toy": 1}):
        assert not validator.is_valid(copy.deepcopy(document) | change), change
