"""The JSON Schema of each kind of contract, of the version that is written, from its model.

Here: the files in interlock/contracts/schemas. Not here: the models. Run: `envs/train/.venv/bin/python ci/schemas.py`; a test compares
(tests/interlock/contracts/test_schemas.py). The files of earlier versions stay as they were published. A schema says less than the model: rules
between fields, and that paths stay inside, are the model's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interlock.contracts import io

FOLDER = Path(io.__file__).parent / "schemas"
REPAIR = "envs/train/.venv/bin/python ci/schemas.py"
HEADER = ["kind", "schema_version", "created_by", "inputs", "files", "toy", "digest", "seal"]


def schemas() -> dict[str, str]:
    """The text of each file, by its name."""
    return {f"{kind}.v{io.VERSION}.json": json.dumps(_schema(kind), indent=2) + "\n" for kind in sorted(io.KINDS)}


def _schema(kind: str) -> dict[str, Any]:
    _, model = io.KINDS[kind]
    schema = model.model_json_schema()
    # The model also reads earlier versions, and contracts that are about to be sealed: a published document is neither.
    for field, value in (("kind", kind), ("schema_version", io.VERSION)):
        schema["properties"][field] = {"const": value}
    for field in ("digest", "seal"):
        schema["properties"][field].pop("default")
    schema["required"] = HEADER + [field for field in schema["required"] if field not in HEADER]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": f"{model.__name__}, version {io.VERSION}"}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
