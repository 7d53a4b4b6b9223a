"""The rules as data: what each says, how bad breaking it is, who found it out, what to do.

Here: one record per rule. Not here: how a rule is checked (graph.py, interface.py, storage.py). Rules that need values of a run are not here: an
attention mask that hides a whole row (apple/coremltools #2669) is found by `mil compare`, which reports the origin of NaN.
severity: `fatal` the device refuses or crashes; `silent` it runs and gives other numbers; `perf` it is slow or leaves the Neural Engine; `note` worth
knowing. confidence: `documented` by the maker, `reported` by several or with a reproduction, `single` report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from runtime.mil.lint import graph, interface, storage
from runtime.mil.lint.facts import Hit
from runtime.mil.program import Function, Program

Target = Literal["ane", "gpu", "cpu", "any"]
Severity = Literal["fatal", "silent", "perf", "note"]
Confidence = Literal["documented", "reported", "single"]
_ANE, _ALL = frozenset({"ane"}), frozenset({"ane", "gpu", "cpu"})
_TOOLS, _TORCH = "https://github.com/apple/coremltools", "https://github.com/pytorch/executorch"
_COREAI, _LAB = "https://github.com/apple/coreai-models", "https://github.com/john-rocky/CoreML-LLM"
_GUIDE = "https://apple.github.io/coremltools/docs-guides/source"


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    confidence: Confidence
    targets: frozenset[str]
    source: str
    fix: str
    check: Callable[[Program, Function], Iterator[Hit]]


@dataclass(frozen=True)
class Finding:
    """A rule broken in a function: the first place, and how many there are."""

    rule: str
    severity: Severity
    confidence: Confidence
    function: str
    operation: str
    value: str
    found: str
    count: int
    source: str
    fix: str


RULES = (
    Rule(
        "infinite-constant",
        "fatal",
        "documented",
        _ALL,
        f"{_TOOLS}/issues/2669",
        "use -1e4 for masks; keep constants inside fp16",
        graph.infinite_constant,
    ),
    Rule("mask-value", "note", "reported", _ALL, _LAB, "use a mask between -5e4 and -1e4", graph.mask_value),
    Rule("fp32-island", "perf", "documented", _ANE, _COREAI, "convert in fp16 where range allows (a norm's mean square does not)", graph.fp32_island),
    Rule("high-rank", "perf", "documented", _ANE, _COREAI, "keep values at rank 5 or less", graph.high_rank),
    Rule("rank-5-attention", "perf", "documented", _ANE, _TORCH, "fold groups into heads: attention of rank 4", graph.rank_5_attention),
    Rule("fused-attention", "silent", "reported", _ANE, f"{_TORCH}/issues/15833", "decompose attention for the Neural Engine", graph.fused_attention),
    Rule(
        "batched-attention",
        "silent",
        "single",
        frozenset({"gpu"}),
        f"{_TOOLS}/issues/2650",
        "fewer than 10 at once, or decompose",
        graph.batched_attention,
    ),
    Rule("silu-kept", "perf", "documented", _ANE, _COREAI, "write x * sigmoid(x)", graph.silu_kept),
    Rule("table-lookup", "perf", "documented", _ANE, _COREAI, "give cos and sin as inputs, or slice their tables", graph.gathers),
    Rule("power-of-two", "silent", "reported", _ALL, f"{_TOOLS}/issues/2628", "use exp2, or exp(x ln 2)", graph.power_of_two),
    Rule("narrow-interface", "perf", "documented", _ANE, _COREAI, "a last dimension of 32 or more, or join outputs", interface.narrow_interface),
    Rule(
        "state-dimension", "fatal", "reported", _ANE, f"{_TOOLS}/issues/2631", "make the last dimension a multiple of 32", interface.state_dimension
    ),
    Rule("many-states", "fatal", "single", _ANE, _LAB, "keep at most 2 states: stack layers into one", interface.many_states),
    Rule("state", "note", "reported", _ANE, _COREAI, "measure on the device, or pass the cache as inputs and outputs", interface.any_state),
    Rule("range-shape", "perf", "documented", _ANE, _TORCH, "one function per length, or enumerated shapes", interface.range_shape),
    Rule("mixed-shapes", "fatal", "reported", _ALL, f"{_TOOLS}/issues/2548", "enumerate all flexible inputs or none", interface.mixed_shapes),
    Rule(
        "enumerated-inputs",
        "fatal",
        "documented",
        _ALL,
        f"{_GUIDE}/flexible-inputs.html",
        "as many shapes for each input; iOS 18",
        interface.enumerated_inputs,
    ),
    Rule("many-shapes", "fatal", "documented", _ALL, f"{_TOOLS}/issues/989", "at most 128 shapes", interface.many_shapes),
    Rule("enumerated-norm", "perf", "single", _ANE, f"{_TOOLS}/issues/1909", "one function per length", interface.enumerated_norm),
    Rule("input-type", "fatal", "documented", _ALL, f"{_GUIDE}/typed-execution.html", "take int32 or floats", interface.input_type),
    Rule(
        "plain-names",
        "fatal",
        "documented",
        _ALL,
        f"{_GUIDE}/load-and-convert-model.html",
        "name inputs and outputs as identifiers",
        interface.plain_names,
    ),
    Rule("large-function", "perf", "reported", _ANE, _LAB, "split the model into packages below 1 GB", storage.large_function),
    Rule("wide-linear", "perf", "reported", _ANE, f"{_TORCH}/pull/15936", "split into linears of about 1024 rows", storage.wide_linear),
    Rule("block-int4", "perf", "documented", _ANE, f"{_GUIDE}/opt-quantization-perf.html", "per channel for the Neural Engine", storage.block_int4),
    Rule("lut-per-row-and-block", "fatal", "single", _ANE, _LAB, "one table per tensor, or per group of channels", storage.lut_per_row_and_block),
    Rule("lut-groups", "perf", "documented", _ANE, f"{_GUIDE}/opt-opt1_3.html", "groups of 4 channels or more", storage.lut_groups),
    Rule("lut-with-state", "fatal", "single", _ANE, f"{_TOOLS}/issues/2716", "8 bits, or no state", storage.lut_with_state),
    Rule(
        "compressed-no-weight",
        "silent",
        "reported",
        _ALL,
        f"{_GUIDE}/opt-quantization-api.html",
        "exclude what is no weight",
        storage.compressed_no_weight,
    ),
    Rule(
        "weight-left-alone",
        "note",
        "reported",
        _ALL,
        f"{_GUIDE}/opt-quantization-api.html",
        "a block size that divides it",
        storage.weight_left_alone,
    ),
)
