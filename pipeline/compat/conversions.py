"""How each case is converted, and the run of the saved package that proves it.

Here: one function per way, and the table from a case's name to it. Not here: what a case means (cases.py), the decoder, judging (judge.py).
Each function saves one package at the path that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch

from pipeline.compat.decoder import CACHE_SHAPE, MODEL, SLOTS, Decode, Decoder, Embedded, Masked, Prefill, Stateful, ids
from pipeline.compat.trials import LENGTHS, TOKENS, Trial, decoding, embedded, masked, prefilled, stateful

Converter = Callable[[Path], None]
KEPT = ["k_0", "v_0", "k_1", "v_1"]
READ = ["logits", "halt_logits"]
OUTPUTS: dict[type[Decoder], list[str]] = {
    Prefill: [*READ, *KEPT],
    Masked: READ,
    Embedded: READ,
    Decode: [*READ, "k_new", "v_new"],
    Stateful: READ,
}


def examples(kind: type[Decoder]) -> tuple[torch.Tensor, ...]:
    """Inputs to trace with."""
    step = (ids(1, 1), torch.tensor([3], dtype=torch.int32))
    of_kind: dict[type[Decoder], tuple[torch.Tensor, ...]] = {
        Prefill: (ids(1, TOKENS),),
        Masked: (ids(1, TOKENS), torch.ones(1, TOKENS, dtype=torch.int32)),
        Embedded: (torch.zeros(1, TOKENS, MODEL),),
        Decode: (*step, torch.zeros(CACHE_SHAPE), torch.zeros(CACHE_SHAPE)),
        Stateful: step,
    }
    return of_kind[kind]


def traced(kind: type[Decoder]) -> Any:
    with torch.no_grad():
        # strict=False: a module that changes its own buffers is traced as well
        return torch.jit.trace(kind(), examples(kind), check_trace=False, strict=False)  # type: ignore[no-untyped-call]


def exported(kind: type[Decoder], dynamic: bool = False, decomposed: bool = True) -> Any:
    """An ExportedProgram; `dynamic`: of any length."""
    length = torch.export.Dim("T", min=2, max=SLOTS)
    shapes = tuple({1: length} for _ in examples(kind)) if dynamic else None
    program = torch.export.export(kind(), examples(kind), dynamic_shapes=shapes)
    return program.run_decompositions({}) if decomposed else program


def tokens(*names: str, shape: Any = (1, TOKENS)) -> list[Any]:
    return [ct.TensorType(name=name, shape=shape, dtype=np.int32) for name in names]


def enumerated() -> Any:
    return ct.EnumeratedShapes([[1, length] for length in LENGTHS], default=[1, TOKENS])


def inputs(kind: type[Decoder]) -> list[Any]:
    """What a trace takes, of one shape."""
    step = [*tokens("input_ids", shape=(1, 1)), *tokens("position", shape=(1,))]
    of_kind: dict[type[Decoder], Callable[[], list[Any]]] = {
        Prefill: lambda: tokens("input_ids"),
        Masked: lambda: tokens("input_ids", "attention_mask"),
        Embedded: lambda: [ct.TensorType(name="inputs_embeds", shape=(1, TOKENS, MODEL))],
        Decode: lambda: [*step, *(ct.TensorType(name=name, shape=CACHE_SHAPE) for name in ("k_cache", "v_cache"))],
        Stateful: lambda: step,
    }
    return of_kind[kind]()


def states(dtype: Any = np.float16) -> list[Any]:
    return [ct.StateType(wrapped_type=ct.TensorType(shape=CACHE_SHAPE, dtype=dtype), name=name) for name in ("k_cache", "v_cache")]


def convert(program: Any, kind: type[Decoder], path: Path, target: str = "iOS18", **options: Any) -> Any:
    """The one call of the converter. Returns the model, saved at `path`."""
    named = [ct.TensorType(name=name) for name in OUTPUTS[kind]]
    model = ct.convert(program, convert_to="mlprogram", outputs=named, minimum_deployment_target=ct.target[target], skip_model_load=True, **options)
    model.save(str(path))
    return model


def trace(path: Path, kind: type[Decoder] = Prefill, given: Callable[[], list[Any]] | None = None, **options: Any) -> Any:
    return convert(traced(kind), kind, path, inputs=given() if given else inputs(kind), **options)


def trace_stateful(path: Path, dtype: Any = np.float16) -> None:
    trace(path, Stateful, states=states(dtype))


def trace_file(path: Path) -> None:
    file = path.with_suffix(".pt")
    traced(Prefill).save(str(file))
    convert(str(file), Prefill, path, inputs=inputs(Prefill))


def trace_functions(path: Path) -> None:
    parts = ct.utils.MultiFunctionDescriptor()
    for name, kind in (("prefill", Prefill), ("decode", Decode)):
        part = path.with_name(f"{name}.mlpackage")
        trace(part, kind)
        parts.add_function(str(part), src_function_name="main", target_function_name=name)
    parts.default_function_name = "prefill"
    ct.utils.save_multifunction(parts, str(path))


def trace_materialized(path: Path) -> None:
    model = trace(path.with_name("range.mlpackage"), given=any_length)
    shapes = {f"prefill_{length}": {"input_ids": (1, length)} for length in LENGTHS}
    ct.utils.materialize_dynamic_shape_mlmodel(model, shapes, str(path))


def any_length() -> list[Any]:
    return tokens("input_ids", shape=(1, ct.RangeDim(1, SLOTS, default=TOKENS)))


def export(path: Path, kind: type[Decoder] = Prefill, given: Callable[[], list[Any]] | None = None, **how: bool) -> None:
    options: dict[str, Any] = {"inputs": given()} if given else {}
    convert(exported(kind, **how), kind, path, **options)


def export_file(path: Path, by_path: bool, **options: Any) -> None:
    """Through a saved .pt2."""
    file = path.with_suffix(".pt2")
    torch.export.save(exported(Prefill), str(file))
    convert(str(file) if by_path else torch.export.load(str(file)), Prefill, path, **options)


def int8_channel(path: Path) -> None:
    compressed(path, ct.optimize.coreml.linear_quantize_weights, ct.optimize.coreml.OpLinearQuantizerConfig(mode="linear_symmetric"))


def int4_block(path: Path) -> None:
    config = ct.optimize.coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32, weight_threshold=0
    )
    compressed(path, ct.optimize.coreml.linear_quantize_weights, config)


def palette4(path: Path, mode: str) -> None:
    config = ct.optimize.coreml.OpPalettizerConfig(mode=mode, nbits=4, weight_threshold=0)
    compressed(path, ct.optimize.coreml.palettize_weights, config)


def compressed(path: Path, method: Callable[..., Any], config: Any) -> None:
    model = trace(path.with_name("whole.mlpackage"))
    method(model, config=ct.optimize.coreml.OptimizationConfig(global_config=config)).save(str(path))


@dataclass(frozen=True)
class Way:
    """How a case is converted, and how its package is run."""

    convert: Callable[[Path], Any]
    trial: Trial


def pair() -> list[Any]:
    return tokens("input_ids", "attention_mask", shape=enumerated())


def one() -> list[Any]:
    return tokens("input_ids", shape=enumerated())


FIXED = partial(prefilled, lengths=(TOKENS,))
WAYS: dict[str, Way] = {
    "trace_fixed": Way(trace, FIXED),
    "trace_fp32": Way(partial(trace, compute_precision=ct.precision.FLOAT32), FIXED),
    "trace_enumerated": Way(partial(trace, given=one), prefilled),
    "trace_enumerated_pair": Way(partial(trace, kind=Masked, given=pair), masked),
    "trace_enumerated_pair_ios17": Way(partial(trace, kind=Masked, given=pair, target="iOS17"), masked),
    "trace_range": Way(partial(trace, given=any_length), partial(prefilled, lengths=(1, *LENGTHS, 29))),
    "trace_embeddings": Way(partial(trace, kind=Embedded), embedded),
    "trace_decode": Way(partial(trace, kind=Decode), decoding),
    "trace_stateful": Way(trace_stateful, stateful),
    "trace_stateful_fp32": Way(partial(trace_stateful, dtype=np.float32), stateful),
    "trace_file": Way(trace_file, FIXED),
    "trace_functions": Way(trace_functions, lambda run: FIXED(run, function="prefill") + decoding(run, function="decode")),
    "trace_materialized": Way(trace_materialized, partial(prefilled, function="prefill_{}")),
    "export_undecomposed": Way(partial(export, decomposed=False), FIXED),
    "export_fixed": Way(export, FIXED),
    "export_embeddings": Way(partial(export, kind=Embedded), embedded),
    "export_range": Way(partial(export, dynamic=True), partial(prefilled, lengths=(2, *LENGTHS, 29))),
    "export_enumerated_pair": Way(partial(export, kind=Masked, given=pair, dynamic=True), masked),
    "export_decode": Way(partial(export, kind=Decode), decoding),
    "export_stateful": Way(partial(export, kind=Stateful), stateful),
    "export_path": Way(partial(export_file, by_path=True), FIXED),
    "export_path_source": Way(partial(export_file, by_path=True, source="pytorch"), FIXED),
    "export_file": Way(partial(export_file, by_path=False), FIXED),
    "int8_channel": Way(int8_channel, FIXED),
    "int4_block": Way(int4_block, FIXED),
    "palette4_uniform": Way(partial(palette4, mode="uniform"), FIXED),
    "palette4_kmeans": Way(partial(palette4, mode="kmeans"), FIXED),
}
