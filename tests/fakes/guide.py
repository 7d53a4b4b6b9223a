"""What the deployment guide has its reader type and write to run a model, letter for letter but for the names of modules (README has the table).

Its paths (`models/student/deployed`, `model.pt`), and the names that it leaves open (`tokenizer`, `tools`), are the reader's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from fakes.shell import Said, run

from interlock.environments import ROOT

# Quick Start, section 2.
QUICK_START = r"""
# Simple inference
python -m runtime.inference_production \
    --model models/student/deployed/model_prefill_fp16.pt \
    --prompt "Your prompt here" \
    --output results.json

# With refinement loops
python -m runtime.inference_production \
    --model models/student/deployed/model_prefill_fp16.pt \
    --prompt "Your prompt here" \
    --use-refinement \
    --config models/student/deployed/runtime_config.json \
    --track-efficiency
"""
# Section "Using InferenceOrchestrator".
ORCHESTRATOR = """
from runtime.orchestration.inference import create_inference_orchestrator_from_checkpoint
from runtime.config import RuntimeConfig

# Load runtime config
config = RuntimeConfig.from_file("runtime_config.json")

# Create orchestrator
orchestrator = create_inference_orchestrator_from_checkpoint(
    checkpoint_path="model.pt",
    tokenizer=tokenizer,
    latent_mode_enabled=config.latent_mode_enabled,
    halt_head_enabled=config.halt_head_enabled,
    caws_tier=config.caws_tier.value,
)

# Simple generation
output = orchestrator.generate_simple("Your prompt")

# With refinement
result = orchestrator.generate_with_refinement(
    prompt="Your prompt",
    judge_fn=lambda output: 0.9,  # Judge function
)
"""
# Section "CoreML Runtime". Where the second function comes from, the guide does not say.
CORE_ML = """
from runtime.generate_coreml import generate_tool_call

result = generate_tool_call(
    model=coreml_model,
    tokenizer=tokenizer,
    prompt="Your prompt",
    tools=tools,
    return_halt_logits=True,
)

halt_logits = result.get("halt_logits")
halt_probability = compute_halt_probability(halt_logits)
"""
# Section "Environment Variables".
VARIABLES = """
export LATENT_MODE=1
export HALT_HEAD=1
export CAWS_TIER=tier_2
export MAX_REFINEMENT_LOOPS=5
export JUDGE_THRESHOLD=0.8
export HALT_THRESHOLD=0.7
"""


def quick_start(student: Path, home: Path, **environ: str) -> Said:
    """Both commands by a shell in `home`, where `models/student` is `student`."""
    (home / "models").mkdir()
    (home / "models" / "student").symlink_to(student)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return run(["sh", "-euc", QUICK_START], cwd=home, environ={"PATH": path, "PYTHONPATH": str(ROOT), **environ})


def orchestrator(model: Path, config: Path, home: Path, tokenizer: Any) -> dict[str, Any]:
    """What the names of the example are after it ran in `home`, where `model.pt` is the model and `runtime_config.json` the configuration."""
    (home / "model.pt").symlink_to(model)
    (home / "runtime_config.json").symlink_to(config)
    before, scope = Path.cwd(), {"tokenizer": tokenizer}
    os.chdir(home)
    try:
        exec(ORCHESTRATOR, scope)
    finally:
        os.chdir(before)
    return scope


def core_ml(model: Any, tokenizer: Any, tools: Any) -> dict[str, Any]:
    """What the names of the example are after it ran."""
    from runtime.generate_coreml import compute_halt_probability

    scope = {"coreml_model": model, "tokenizer": tokenizer, "tools": tools, "compute_halt_probability": compute_halt_probability}
    exec(CORE_ML, scope)
    return scope
