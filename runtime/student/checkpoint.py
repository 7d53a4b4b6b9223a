"""A checkpoint directory as a model, and a random model for toys.

Here: weights into a Student, by name and shape. Not here: the contract's own checks (interlock/contracts), foreign formats (pipeline/sources).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interlock.contracts.checkpoint import WEIGHTS, Arch, CheckpointContract, ModelArch
from interlock.errors import refuse
from runtime.student.fit import REMEDY, check_fit
from runtime.student.model import RMSNorm, Student


def load_student(directory: Path, contract: CheckpointContract) -> Student:
    """The student of a checkpoint directory: fp32, eval mode, no gradients.

    Weights stored as fp32 stay mapped from the file (no copy); narrower ones are widened, which is exact.
    Raises ContractError that lists every missing, unknown, misshapen or mistyped tensor.
    """
    weights = read_weights(directory, contract)
    return student_from(contract.arch, contract.model_arch, weights)


def read_weights(directory: Path, contract: CheckpointContract) -> dict[str, Tensor]:
    """Every tensor by name as stored, mapped from the file, names, shapes and dtype checked against the contract. Raises ContractError."""
    path = directory / WEIGHTS
    try:
        with safe_open(str(path), framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, SafetensorError) as problem:
        raise refuse(path, "", expected="a safetensors file", found=problem, remedy=REMEDY) from problem
    check_fit(weights, {name: str(weight.dtype).removeprefix("torch.") for name, weight in weights.items()}, contract, path)
    return weights


def student_from(arch: Arch, heads: ModelArch, weights: dict[str, Tensor]) -> Student:
    """A frozen fp32 student around tensors that already fit `arch.weight_shapes(heads)`; fp32 tensors are shared, not copied."""
    with torch.device("meta"):  # no memory for weights that are replaced at once
        student = Student(arch, heads)
    student.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
    return student.eval().requires_grad_(False)


def random_student(arch: Arch, heads: ModelArch, seed: int) -> Student:
    """A trainable fp32 student, the same for the same seed; the caller's random state is left alone.

    Linear weights are normal with deviation 1/√fan_in, those that write into the residual stream divided by √(2·n_layers) as in GPT-2 §2.3,
    so that toy logits have unit scale at any depth.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(arch, heads)
        for name, module in student.named_modules():
            if isinstance(module, torch.nn.Linear):
                depth = (2 * arch.n_layers) ** -0.5 if name.endswith(("attn.wo", "mlp.w2")) else 1.0
                torch.nn.init.normal_(module.weight, std=depth * module.in_features**-0.5)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)
            elif isinstance(module, torch.nn.Embedding):
                # A tied embedding is also the head: 1/√d keeps its logits at unit scale, and the first norm rescales the input anyway.
                torch.nn.init.normal_(module.weight, std=arch.d_model**-0.5)
            elif isinstance(module, RMSNorm):
                torch.nn.init.ones_(module.weight)
    return student
