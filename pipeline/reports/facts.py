"""What an artifact is, in a few lines of facts.

Here: names and values for each kind of contract. Not here: their layout (text.py, page.py), figures (gate.py, compression.py).
"""

from __future__ import annotations

from interlock.contracts.base import Contract
from interlock.contracts.checkpoint import Arch, CheckpointContract
from interlock.contracts.dataset import DatasetContract
from interlock.contracts.deployment import DeploymentContract
from interlock.contracts.evaluation import EvaluationContract
from interlock.contracts.export import ExportContract
from interlock.contracts.package import PackageContract
from interlock.voice import human
from pipeline.reports.compression import compression_rows
from pipeline.reports.gate import headroom_rows
from pipeline.reports.training import training_rows


def facts_of(contract: Contract) -> list[tuple[str, str]]:
    """What a contract says, as names and values; its figures have tables of their own."""
    if isinstance(contract, CheckpointContract):
        arch = contract.arch
        kinds: dict[str, int] = {}
        for kind in contract.source.quantization.values():
            kinds[kind] = kinds.get(kind, 0) + 1
        blocks = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items())) or "dense"
        shape = f"{arch.n_layers} layers, {arch.n_heads} heads ({arch.n_kv_heads} kv), width {arch.d_model}, vocabulary {arch.vocab_size}"
        return [
            ("source", f"{contract.source.form} {contract.source.name} ({blocks})"),
            ("model", f"{contract.parameters / 1e6:.1f} M parameters, {shape}{_beyond_llama(arch)}"),
            ("heads", _heads(contract.model_arch.use_halt_head, contract.model_arch.use_self_evaluation)),
            *(training_rows(contract.training) if contract.training else []),
        ]
    if isinstance(contract, ExportContract):
        return [("mode", f"{contract.mode}, {', '.join(contract.signatures)}"), ("halt head", "yes" if contract.use_halt_head else "no")]
    if isinstance(contract, PackageContract):
        facts = contract.facts
        unknown = [message for message in contract.messages if message.harmless is None]
        said = f"{len(contract.messages)} kinds of converter message, " + (
            f"{len(unknown)} not known: {unknown[0].text[:80]}" if unknown else "all known to be harmless"
        )
        return [
            ("lane", contract.lane + (", compared with export" if contract.drift else "")),
            ("layout", f"{contract.layout}, {len(facts.functions)} functions: {', '.join(facts.functions)}"),
            ("weights", f"{human(facts.weight_bytes, 'B')} shared by all functions, specification {facts.specification_version}"),
            *compression_rows(contract.compression),
            *headroom_rows(contract.gate),
            ("messages", said),
            ("verified on hardware", "no (needs a Mac)"),
        ]
    if isinstance(contract, DeploymentContract):
        able = [name for name, has in contract.capabilities.model_dump().items() if has]
        parts = [name for name in contract.artifacts.model_dump().values() if name]
        return [("artifacts", ", ".join(parts)), ("capabilities", ", ".join(able) or "none")]
    if isinstance(contract, DatasetContract):
        rows = ", ".join(f"{name} {split.rows} rows" for name, split in contract.splits.items())
        made = contract.generator.name if contract.generator else contract.origin.name if contract.origin else "unknown"
        return [("task", contract.task), ("rows", rows), ("from", made), *_taught(contract)]
    if isinstance(contract, EvaluationContract):
        return [
            ("suite", f"{contract.suite}, {contract.items} items"),
            ("subject", f"{contract.subject.kind} {contract.subject.name}"),
            ("run by", contract.runner + (f", backend {contract.backend}" if contract.backend else "")),
            ("verdict", f"{contract.verdict}: {', '.join(f'{gate.name} {gate.verdict}' for gate in contract.gates) or 'no gate was asked for'}"),
        ]
    return []


def _beyond_llama(arch: Arch) -> str:
    adds = {
        "biases of query, key and value": arch.attention_bias,
        "norms of query and key": arch.qk_norm,
        f"a window of {arch.sliding_window} positions": arch.sliding_window is not None,
        f"no rotation in {len(arch.no_rope_layers)} of {arch.n_layers} layers": bool(arch.no_rope_layers),
    }
    return "".join(f", {words}" for words, has in adds.items() if has)


def _taught(contract: DatasetContract) -> list[tuple[str, str]]:
    if (teaching := contract.teaching) is None:
        return []
    kept = f"{teaching.top_k} log-probabilities per token" if teaching.top_k else "text alone"
    return [("taught by", f"{teaching.name}, temperature {teaching.temperature:g}, {kept}")]


def _heads(halt: bool, quality: bool) -> str:
    return ", ".join(name for name, has in (("halt", halt), ("self-evaluation", quality)) if has) or "none beside the language head"
