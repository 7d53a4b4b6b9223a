"""What coremltools itself makes of a package: loaded programs, quantised and palettised copies. Environment `export` only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.coreml.messages import collected, load_converter


def loaded(package: Path) -> Any:
    """The package as a pymil program, validated."""
    ct, _ = load_converter()
    from coremltools.converters.mil.frontend.milproto.load import load

    with collected():
        model = ct.models.MLModel(str(package), skip_model_load=True)
        program = load(model.get_spec(), model.get_spec().specificationVersion, model.weights_dir)
        program.validate()
    return program


def compressed(package: Path, into: Path, kind: str, **options: Any) -> Path:
    """`linear_quantize_weights` or `palettize_weights` of a package of one function, without the RoPE tables: those it would compress as well."""
    ct, _ = load_converter()
    import coremltools.optimize.coreml as cto

    configs: Any = {"linear": cto.OpLinearQuantizerConfig, "palette": cto.OpPalettizerConfig}
    works: Any = {"linear": cto.linear_quantize_weights, "palette": cto.palettize_weights}
    tables = dict.fromkeys(_readers_of_rope(package))
    with collected():
        model = ct.models.MLModel(str(package), skip_model_load=True)
        config = cto.OptimizationConfig(global_config=configs[kind](**options), op_name_configs=tables)
        works[kind](model, config).save(str(into))
    return into


def blobs(package: Path) -> list[tuple[int, int, bytes]]:
    """Every array of the weight file as stored, in its order: type, padding bits, bytes. Read from the format's description."""
    data, at, found = (package / "Data/com.apple.CoreML/weights/weight.bin").read_bytes(), 64, []
    for _ in range(struct.unpack_from("<I", data)[0]):
        sentinel, dtype, size, start, padding = struct.unpack_from("<IIQQQ", data, at)
        assert sentinel == 0xDEADBEEF
        found.append((dtype, padding, data[start : start + size]))
        at = start + size + -size % 64
    return found


def constants(package: Path) -> dict[str, Any]:
    """Large weights by operation name, as the arrays that they decompress to; of a function `main`, or the first."""
    found = {}
    for operation in next(iter(loaded(package).functions.values())).operations:
        if operation.op_type.startswith("constexpr_"):
            found[operation.name] = operation.materialized_val_inference()
    return found


def _readers_of_rope(package: Path) -> Iterator[str]:
    """Names of the operations that look a position up."""
    for operation in next(iter(loaded(package).functions.values())).operations:
        if operation.op_type == "const" and "_rope_" in operation.name:
            yield from (child.name for child in operation.outputs[0].child_ops)
