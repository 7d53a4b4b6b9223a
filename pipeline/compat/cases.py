"""The cases of the probe: every way to turn the decoder into a package, and what must come of it.

Here: names, meanings, floors, in the order in which tables show them. Not here: torch and coremltools (conversions.py).
A floor lies some 10 dB below what every measured version reaches: fp16 rounding leaves 66 to 70 dB, a wrong mask, position or layer less than 40.
"""

from __future__ import annotations

from dataclasses import dataclass

FP32_DB, FP16_DB, INT8_DB, FOUR_BITS_DB = 100.0, 55.0, 40.0, 18.0


@dataclass(frozen=True)
class Case:
    """One conversion. floor_db: the least PSNR of each of its outputs against torch. refusal: why the converter refuses it in every version, and
    `says` how its error begins: another error is a failure."""

    name: str
    meaning: str
    floor_db: float = FP16_DB
    refusal: str | None = None
    says: str = ""


CASES = (
    Case("trace_fixed", "traced, one length"),
    Case("trace_fp32", "traced, one length, computed in fp32", FP32_DB),
    Case("trace_enumerated", "traced, three lengths of one input"),
    Case("trace_enumerated_pair", "traced, three lengths of two inputs"),
    Case(
        "trace_enumerated_pair_ios17",
        "the same for iOS 17",
        refusal="two inputs with enumerated shapes need iOS 18",
        says="ValueError: Expected a single enumerated shape",
    ),
    Case("trace_range", "traced, any length from 1 to 32"),
    Case("trace_embeddings", "traced, embeddings instead of tokens"),
    Case("trace_decode", "traced, one step with the cache as inputs and outputs"),
    Case("trace_stateful", "traced, one step with the cache as state"),
    Case("trace_stateful_fp32", "the same with a state of fp32", refusal="a state is fp16", says="ValueError: State only support fp16"),
    Case("trace_file", "the trace saved as .pt, converted from its path"),
    Case("trace_functions", "prefill and decode merged into one package of two functions"),
    Case("trace_materialized", "any length made into one function per length"),
    Case(
        "export_undecomposed",
        "torch.export as it is",
        refusal="coremltools does not read the dialect TRAINING",
        says="NotImplementedError: Conversion for models with only ATEN or EDGE dialect",
    ),
    Case("export_fixed", "torch.export, one length"),
    Case("export_embeddings", "torch.export, embeddings instead of tokens"),
    Case("export_range", "torch.export, any length from 2 to 32"),
    Case("export_enumerated_pair", "torch.export, three lengths of two inputs"),
    Case("export_decode", "torch.export, one step with the cache as inputs and outputs"),
    Case("export_stateful", "torch.export, one step with the cache as state"),
    Case(
        "export_path",
        "a saved .pt2, converted from its path",
        refusal="coremltools 9.0 does not take a .pt2 by path",
        says="ValueError: Unable to determine the type of the model",
    ),
    Case(
        "export_path_source",
        "the same with the source named",
        refusal="coremltools 9.0 does not take a .pt2 by path",
        says="TypeError: Model must either be a TorchScript object",
    ),
    Case("export_file", "a saved .pt2, loaded and converted"),
    Case("int8_channel", "weights int8, a scale per channel", INT8_DB),
    Case("int4_block", "weights int4, a scale per 32", FOUR_BITS_DB),
    Case("palette4_uniform", "weights as 16 even steps", FOUR_BITS_DB),
    Case(
        "palette4_kmeans",
        "weights as 16 clustered values",
        FOUR_BITS_DB,
        refusal="clustering needs scikit-learn, on which coremltools does not depend",
        says="ModuleNotFoundError: scikit-learn is required",
    ),
)

BY_NAME = {case.name: case for case in CASES}
