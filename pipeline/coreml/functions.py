"""Which functions a package has, and converting each from the saved TorchScript files.

Here: plans, the module that owns the cache as Core ML state, one `ct.convert` per function. Not here: the lane of torch.export (export_lane.py),
merging (merge.py), reading back (facts.py).
The files are functional, so one trace of a thin wrapper serves every length: the converter takes the shapes of the declared inputs, not of the trace.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from interlock.contracts import export, package
from interlock.contracts.export import DECODE, PREFILL, Method, Signature
from pipeline.coreml.lean import lean_conversion
from pipeline.coreml.messages import collected, load_converter
from pipeline.coreml.normal import normalise
from runtime.backends.torchscript_file import load_torchscript

Target = Literal["iOS16", "iOS17", "iOS18"]

# Core ML states came with iOS 18 / macOS 15.
STATE_TARGET: Target = "iOS18"
# The Neural Engine refuses states whose dimensions are not multiples of 32 (apple/coremltools #2631).
CACHE_MULTIPLE = 32


@dataclass(frozen=True)
class FunctionPlan:
    """One function of a package: its name there, the exported method it comes from, and its number of tokens T."""

    name: str
    artifact: str
    method: str
    tokens: int


def plan_functions(lengths: Sequence[int], *, latent: bool = False) -> tuple[FunctionPlan, ...]:
    """`prefill_<T>` for every length, then `decode`, and `decode_latent` of a student that was trained with latent slots."""
    prefills = (FunctionPlan(f"prefill_{length}", PREFILL, "prefill", length) for length in sorted(lengths))
    steps = (FunctionPlan("decode", DECODE, "forward", 1), FunctionPlan(package.LATENT, DECODE, export.LATENT, 1))
    return (*prefills, *steps[: 1 + latent])


def cache_length(lengths: Sequence[int], margin: int, max_position: int) -> int:
    """Cache slots C: the longest prefill and `margin` tokens after it, no more than the rope tables need, a multiple of 32."""
    wanted = min(max(lengths) + margin, max_position)
    return -(-wanted // CACHE_MULTIPLE) * CACHE_MULTIPLE


def convert_stateful(
    files: dict[str, Path], signatures: dict[str, Signature], plans: Sequence[FunctionPlan], slots: int, into: Path, note: Callable[[str], None]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Convert each plan to a package of one function in `into`: {function: package} and what the converter said.

    files, signatures: by artifact, from an export whose digests the caller has checked (loading runs the files' code).
    Inputs `input_ids` int32 [1, T] (of `decode_latent` `inputs_embeds` fp16 [1, 1, d]), `position_ids` int32 [T], for prefill `last_index` int32
    [1]; states `k_cache`, `v_cache` fp16 [L, H_kv, slots, D]; outputs fp16 under the names of the signature. Host's duty: position + T ≤ slots.
    """
    packages: dict[str, Path] = {}
    lines = list(load_converter()[1])
    for artifact in dict.fromkeys(plan.artifact for plan in plans):
        module = load_torchscript(files[artifact])
        signature = signatures[artifact]
        for plan in (plan for plan in plans if plan.artifact == artifact):
            with collected() as said:
                traced = _traced(Stateful(module, plan.method, cache_shape(signature, slots)), signature.methods[plan.method], plan.tokens)
            packages[plan.name] = into / f"{plan.name}.mlpackage"
            lines += said
            lines += convert_function(traced, plan, signature, slots, packages[plan.name], note)
    return packages, tuple(lines)


def convert_single(
    prefill: Path, signature: Signature, lengths: Sequence[int], primary: int, target: Target, into: Path, note: Callable[[str], None]
) -> tuple[str, ...]:
    """The guide's package at `into`: one function, `input_ids` int32 [1, T] with T among `lengths` (default `primary`), outputs `logits` fp16
    [1, T, V] and with a halt head `halt_logits` fp16 [1, 2], no cache. Returns what the converter said."""
    said_on_import = load_converter()[1]
    return (*said_on_import, *convert_whole(load_torchscript(prefill), signature, lengths, primary, target, into, note))


class Stateful(nn.Module):
    """Owns the caches that the exported method takes as arguments, so that the converter can see them as state."""

    def __init__(self, exported: nn.Module, method: str, cache_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.exported, self.method = exported, method
        for name in ("k_cache", "v_cache"):
            self.register_buffer(name, torch.zeros(cache_shape, dtype=torch.float16))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The method's inputs before its caches → its outputs."""
        outputs: tuple[Tensor, ...] = getattr(self.exported, self.method)(*inputs, self.k_cache, self.v_cache)
        return outputs


def _traced(module: Stateful, method: Method, tokens: int) -> Any:
    """Tracing runs the model once on few tokens: nothing of their number is kept (proved at every length in shapes.py)."""
    with torch.no_grad():
        return torch.jit.trace(module.eval(), example(method, min(tokens, 4)), check_trace=False)  # type: ignore[no-untyped-call]


def example(method: Method, tokens: int) -> tuple[Tensor, ...]:
    """Zeros for the inputs of a function that are no states."""
    sizes = {spec.name: [tokens if size == "T" else int(size) for size in spec.shape] for spec in _free(method)}
    return tuple(torch.zeros(sizes[spec.name], dtype=getattr(torch, spec.dtype)) for spec in _free(method))


def convert_function(program: Any, plan: FunctionPlan, signature: Signature, slots: int, path: Path, note: Callable[[str], None]) -> tuple[str, ...]:
    """One function with state, from what a lane made of it: a package at `path`. Returns what the converter said."""
    method = signature.methods[plan.method]
    options = {"inputs": _inputs(method, plan.tokens), "states": _states(signature, slots)}
    return _convert(program, method, STATE_TARGET, options, path, lambda text: note(f"{plan.name}: {text}"))


def convert_whole(
    program: Any, signature: Signature, lengths: Sequence[int], primary: int, target: Target, path: Path, note: Callable[[str], None]
) -> tuple[str, ...]:
    """The function without state, at every length. Returns what the converter said."""
    ct, _ = load_converter()
    # the converter wants at least two shapes to enumerate
    shape = ct.EnumeratedShapes([[1, length] for length in sorted(lengths)], default=[1, primary]) if len(lengths) > 1 else (1, primary)
    options = {"inputs": [ct.TensorType(name="input_ids", shape=shape, dtype=np.int32)]}
    return _convert(program, signature.methods["forward"], target, options, path, note)


def _free(method: Method) -> list[Any]:
    """The inputs that stay inputs: all but the caches."""
    return [spec for spec in method.inputs if spec.name not in ("k_cache", "v_cache")]


def _inputs(method: Method, tokens: int) -> list[Any]:
    """A latent vector comes from the fp16 output `hidden`: as fp16 it goes back in without a change."""
    ct, _ = load_converter()
    dtypes = {"int32": np.int32, "float32": np.float16}
    shapes = {spec.name: tuple(tokens if size == "T" else size for size in spec.shape) for spec in _free(method)}
    return [ct.TensorType(name=spec.name, shape=shapes[spec.name], dtype=dtypes[spec.dtype]) for spec in _free(method)]


def cache_shape(signature: Signature, slots: int) -> tuple[int, int, int, int]:
    return signature.n_layers, signature.n_kv_heads, slots, signature.d_head


def _states(signature: Signature, slots: int) -> list[Any]:
    ct, _ = load_converter()
    shape = cache_shape(signature, slots)
    return [ct.StateType(wrapped_type=ct.TensorType(shape=shape, dtype=np.float16), name=name) for name in ("k_cache", "v_cache")]


def _convert(program: Any, method: Method, target: Target, options: dict[str, Any], path: Path, note: Callable[[str], None]) -> tuple[str, ...]:
    """One `ct.convert`, saved at `path` in normal form. Returns what the converter said."""
    ct, _ = load_converter()
    from coremltools.converters.mil.converter import _reset_conversion_state

    # Names of operations are counted per process: whatever was built before in this one must not show in the bytes.
    _reset_conversion_state()
    with collected() as lines, lean_conversion(note):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            # fresh objects for every call: the converter writes into them
            outputs=[ct.TensorType(name=spec.name, dtype=np.float16) for spec in method.outputs],
            minimum_deployment_target=ct.target[target],
            compute_precision=ct.transform.FP16ComputePrecision(op_selector=keeps_range_in_fp16),
            skip_model_load=True,
            **options,
        )
        model.save(str(path))
        shutil.rmtree(model.package_path, ignore_errors=True)
    normalise(path)
    return tuple(lines)


def keeps_range_in_fp16(op: Any) -> bool:
    """Whether an operation may be computed in fp16: all but the mean square of RMSNorm, whose x² is infinite from |x| ≥ 256.

    pow, reduce_mean and rsqrt stay in fp32, and the add (of epsilon) and mul (by 1/rms) next to them: with those in fp16 the mean itself
    overflows on the way (measured on a decoder with |x| near 1700: error 4.1 against 2.5e-3).
    """
    if op.op_type in ("pow", "reduce_mean", "rsqrt"):
        return False
    if op.op_type not in ("add", "mul"):
        return True
    sources = (getattr(value, "op", None) for value in op.inputs.values() if not isinstance(value, (list, tuple)))
    return not any(source is not None and source.op_type in ("reduce_mean", "rsqrt") for source in sources)
