"""A training checkpoint gives back the tensors that were saved; a tensor outside its record, a missing field or a wrong flag is refused."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import foreign_files as make
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.contracts.checkpoint import ModelArch
from interlock.errors import ContractError
from pipeline.sources.torchfile import open_torch


def saved(path: Path, protocol: int = 2, **changes: object) -> Path:
    torch.save(make.checkpoint(**changes), path, pickle_protocol=protocol)
    return path


def with_arch(**changes: object) -> dict[str, Any]:
    """`config` with these fields of `arch`; None leaves one out."""
    return {"config": {"arch": {key: value for key, value in (make.TOY_ARCH | changes).items() if value is not None}}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_torch_saves(tmp_path: Path, protocol: int) -> None:
    foreign = open_torch(saved(tmp_path / "x.pt", protocol))
    assert (foreign.arch, foreign.step, foreign.model_arch) == (make.TINY, 7, ModelArch())
    for name, tensor in make.tensors().items():
        assert torch.equal(foreign.load(name), tensor)


def test_reads_every_float_type_and_layout(tmp_path: Path) -> None:
    state = make.tensors()
    state["blocks.0.mlp.w1.weight"] = state["blocks.0.mlp.w1.weight"].half()
    state["blocks.0.mlp.w2.weight"] = state["blocks.0.mlp.w2.weight"].bfloat16()
    state["blocks.0.mlp.w3.weight"] = state["blocks.0.mlp.w3.weight"].double()
    state["blocks.1.attn.wo.weight"] = state["blocks.1.attn.wo.weight"].T.contiguous().T  # strided
    shared = torch.randn(3, 64, 32)
    state["blocks.1.mlp.w1.weight"], state["blocks.1.mlp.w3.weight"] = shared[1], shared[2]  # two views of one storage
    foreign = open_torch(saved(tmp_path / "x.pt", model_state_dict=state))
    for name, tensor in state.items():
        loaded = foreign.load(name)
        assert torch.equal(loaded, tensor.float()) and loaded.is_contiguous() and loaded.dtype == torch.float32


@pytest.mark.train
def test_the_guide_s_other_keys_are_passed_over(tmp_path: Path) -> None:
    import numpy as np

    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "torch_cuda": []}
    meta = {"sha256_state": "00", "rng_states": states, "scaler_state_dict": {}, "device_config": {"model_parallel": False, "all_devices": ["cpu"]}}
    assert open_torch(saved(tmp_path / "x.pt", optimizer_state_dict=optimizer.state_dict(), loss=1.5, meta=meta)).arch == make.TINY


def test_a_toy_checkpoint_takes_its_step_from_meta(tmp_path: Path) -> None:
    toy = {key: value for key, value in make.checkpoint(meta={"step": 12, "trainer": "toy-distill"}).items() if key not in ("step", "model_arch")}
    toy["config"] = with_arch(d_model=None, hidden_size=32, d_ff=None)["config"]
    torch.save(toy, tmp_path / "x.pt")
    foreign = open_torch(tmp_path / "x.pt")
    assert foreign.step == 12 and foreign.arch == make.TINY


def test_a_tied_model_names_one_storage_twice(tmp_path: Path) -> None:
    state = make.tensors()
    state["lm_head.weight"] = state["embed.weight"]
    foreign = open_torch(saved(tmp_path / "x.pt", model_state_dict=state))
    assert foreign.arch.tie_embeddings and "lm_head.weight" not in foreign.shapes
    state.pop("lm_head.weight")
    assert open_torch(saved(tmp_path / "y.pt", model_state_dict=state)).arch.tie_embeddings


def test_reads_both_heads(tmp_path: Path) -> None:
    heads = ModelArch(use_halt_head=True, use_self_evaluation=True)
    foreign = open_torch(saved(tmp_path / "x.pt", model_state_dict=make.tensors(heads=heads), model_arch=heads.model_dump()))
    assert foreign.model_arch == heads and foreign.load("halt_head.bias").shape == (2,)


HALT = ModelArch(use_halt_head=True)
SCALING = {"kind": "linear", "factor": 2.0}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no model_state_dict": ({"model_state_dict": None}, "model_state_dict"),
    "model_state_dict a list": ({"model_state_dict": [1]}, "model_state_dict"),
    "model_state_dict of numbers": ({"model_state_dict": {"w": 1.0}}, "tensor of floats"),
    "model_state_dict of integers": ({"model_state_dict": {"w": torch.ones(3, dtype=torch.int64)}}, "int64"),
    "an empty tensor": ({"model_state_dict": {**make.tensors(), "x": torch.ones(0)}}, "view inside"),
    "an expanded tensor": ({"model_state_dict": {**make.tensors(), "x": torch.ones(1).expand(1000, 1000)}}, "view inside"),
    "an unknown tensor": ({"model_state_dict": {**make.tensors(), "x": torch.ones(3)}}, "no such tensor"),
    "a missing tensor": ({"model_state_dict": {k: v for k, v in make.tensors().items() if k != "blocks.1.attn.wv.weight"}}, "blocks.1.attn.wv"),
    "no config": ({"config": None}, "/config/arch/d_model"),
    "config a string": ({"config": "x"}, "/config"),
    "arch a list": ({"config": {"arch": [1]}}, "/config/arch"),
    "d_model 10^12": (with_arch(d_model=10**12), "/config/arch/d_model"),
    "d_model a tensor": (with_arch(d_model=torch.tensor(32)), "/config/arch/d_model"),
    "d_model true": (with_arch(d_model=True), "/config/arch/d_model"),
    "n_layers 10^9": (with_arch(n_layers=10**9), "/config/arch/n_layers"),
    "n_layers 3": (with_arch(n_layers=3), "blocks.2"),
    "rope_theta NaN": (with_arch(rope_theta=float("nan")), "/config/arch/rope_theta"),
    "dynamic rope": (with_arch(rope_scaling="dynamic"), "dynamic"),
    "rope scaling of another kind": (with_arch(rope_scaling={"kind": "yarn", "factor": 2.0}), "rope_scaling/kind"),
    "rope scaling with more": (with_arch(rope_scaling={**SCALING, "\x1b": 1}), "rope_scaling/`'\\x1b'`"),
    "biases that are not there": (with_arch(attention_bias=True), "blocks.0.attn.wq.bias"),
    "biases as a number": (with_arch(attention_bias=1), "/config/arch/attention_bias"),
    "a window of 0": (with_arch(sliding_window=0), "/config/arch/sliding_window"),
    "a layer twice": (with_arch(no_rope_layers=[1, 1]), "no_rope_layers"),
    "layers by a string": (with_arch(no_rope_layers="1"), "/config/arch/no_rope_layers"),
    "tied, but two tensors": (with_arch(tie_embeddings=True), "tie_embeddings"),
    "step negative": ({"step": -1}, "/step"),
    "step a string": ({"step": "7"}, "/step"),
    "halt flag without head": ({"model_arch": {"use_halt_head": True}}, "no tensor `halt_head.*`"),
    "halt head without flag": ({"model_state_dict": make.tensors(heads=HALT)}, "use_halt_head is False"),
    "old halt flag without head": ({"model_arch": {}, "config": {**with_arch()["config"], "use_halt_head": True}}, "/config/use_halt_head"),
    "halt flag a number": ({"model_arch": {"use_halt_head": 1}}, "true or false"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_a_checkpoint_that_contradicts_itself(tmp_path: Path, name: str) -> None:
    changes, word = REFUSED[name]
    with pytest.raises(ContractError) as caught:
        open_torch(saved(tmp_path / "x.pt", **changes))
    text = "\n".join(caught.value.lines())
    assert word in text and "\x1b" not in text


def test_names_all_missing_fields_at_once(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        open_torch(saved(tmp_path / "x.pt", config={"arch": {"d_model": 32, "n_heads": 4}}))
    missing = {violation.where.rpartition("/")[2] for violation in caught.value.violations}
    assert missing == {"n_layers", "n_kv_heads", "d_head", "vocab_size", "rope_theta", "max_position"}


RELATIVE = {"attention_bias": True, "qk_norm": True, "sliding_window": 16, "no_rope_layers": [1]}


def test_what_the_relatives_add_is_read(tmp_path: Path) -> None:
    arch = make.TINY.model_copy(update={**RELATIVE, "no_rope_layers": (1,)})
    foreign = open_torch(saved(tmp_path / "x.pt", model_state_dict=make.tensors(arch), **with_arch(**RELATIVE)))
    assert foreign.arch == arch and torch.equal(foreign.load("blocks.1.attn.wv.bias"), make.tensors(arch)["blocks.1.attn.wv.bias"])


@pytest.mark.parametrize("scaling", ["none", "linear", None])
def test_the_guide_s_linear_is_none(tmp_path: Path, scaling: str | None) -> None:
    assert open_torch(saved(tmp_path / "x.pt", **with_arch(rope_scaling=scaling))).arch.rope_scaling is None


def test_our_own_scaling_is_kept(tmp_path: Path) -> None:
    scaling = open_torch(saved(tmp_path / "x.pt", **with_arch(rope_scaling=SCALING))).arch.rope_scaling
    assert scaling is not None and scaling.model_dump(exclude_none=True) == SCALING


# One tensor whose fields lie; the storage has 4 fp32 elements.
LIES: dict[str, dict[str, Any]] = {
    "numel beyond the record": {"numel": 5},
    "numel below the record": {"numel": 3},
    "numel 2^40": {"numel": 1 << 40, "shape": (1 << 40,)},
    "numel 2^62": {"numel": 1 << 62},
    "numel negative": {"numel": -4},
    "numel a string": {"numel": "4"},
    "type of another width": {"kind": "DoubleStorage"},
    "offset 1": {"offset": 1},
    "offset 2^47": {"offset": 1 << 47},
    "offset 2^64": {"offset": 1 << 64},
    "offset negative": {"offset": -1},
    "offset a float": {"offset": 0.0},
    "offset true": {"offset": True},
    "shape beyond": {"shape": (5,)},
    "shape negative": {"shape": (-4,)},
    "shape twice negative": {"shape": (-2, -2), "strides": (2, 1)},
    "shape 0": {"shape": (0,)},
    "shape wraps": {"shape": (1 << 32, 1 << 32), "strides": (0, 0)},
    "shape a list": {"shape": [4]},
    "shape of nine": {"shape": (1,) * 8 + (4,), "strides": (1,) * 9},
    "stride huge": {"strides": (1 << 47,)},
    "stride negative": {"strides": (-1,)},
    "stride 0, a million elements": {"shape": (1000, 1000), "strides": (0, 0)},
    "strides of another length": {"strides": (1, 1)},
    "key without a record": {"key": "1"},
    "key a path": {"key": "../version"},
    "key a number": {"key": 0},
    "quantized storage": {"kind": "QInt8Storage"},
    "untyped storage": {"kind": "UntypedStorage"},
}


@pytest.mark.parametrize("name", LIES)
def test_refuses_a_tensor_outside_its_record(tmp_path: Path, name: str) -> None:
    path = make.archive(tmp_path / "x.pt", make.tensor_pickle(**LIES[name]), {"0": bytes(16)})
    begun = time.process_time()
    with pytest.raises(ContractError) as caught:
        open_torch(path)
    assert "config" not in caught.value.lines()[0] and time.process_time() - begun < 1


def test_the_honest_tensor_passes_that_check(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="d_model"):
        open_torch(make.archive(tmp_path / "x.pt", make.tensor_pickle(), {"0": bytes(16)}))


def test_refuses_one_storage_under_two_types(tmp_path: Path) -> None:
    half, brain = (make.tensor_pickle(kind=kind, numel=8) for kind in ("HalfStorage", "BFloat16Storage"))
    start = half.index(b"}", 3) + 1  # of the inner dict, with one key `w`
    second = brain[start:].replace(b"\x01\x00\x00\x00w", b"\x01\x00\x00\x00v")
    with pytest.raises(ContractError, match="one type"):
        open_torch(make.archive(tmp_path / "x.pt", half[:-2] + second, {"0": bytes(16)}))


def test_refuses_big_endian_numbers(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.byteorder", "big")  # what torch.save writes into the archive
        saved(tmp_path / "x.pt")
    with pytest.raises(ContractError, match="little"):
        open_torch(tmp_path / "x.pt")


def test_refuses_the_old_format_with_the_way_out(tmp_path: Path) -> None:
    torch.save(make.checkpoint(), tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ContractError) as caught:
        open_torch(tmp_path / "x.pt")
    assert "before 1.6" in caught.value.problem and "torch.save" in caught.value.remedy


def test_refuses_a_whole_model(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    torch.save(model, tmp_path / "model.pt")
    with pytest.raises(ContractError, match=r"torch\.nn"):
        open_torch(tmp_path / "model.pt")


def test_an_executable_checkpoint_executes_nothing(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {canary}",)

    saved(tmp_path / "x.pt", extra=Payload())
    with pytest.raises(ContractError) as caught:
        open_torch(tmp_path / "x.pt")
    assert "system" in caught.value.problem and caught.value.exit_code == 3 and not canary.exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert canary.exists()  # the payload was live


def test_refuses_nan_when_the_tensor_is_read(tmp_path: Path) -> None:
    state = make.tensors()
    state["norm_f.weight"][1] = torch.inf
    foreign = open_torch(saved(tmp_path / "x.pt", model_state_dict=state))
    with pytest.raises(ContractError, match="finite"):
        foreign.load("norm_f.weight")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return saved(tmp_path_factory.mktemp("sound") / "x.pt").read_bytes()


@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_read_or_refused_never_more(tmp_path: Path, sound: bytes, flips: list[tuple[int, int]], pickled: bool) -> None:
    """Half of the damage goes into the pickle, whose CRC is then made right again."""
    raw = bytearray(sound)
    if pickled:
        import zipfile

        (tmp_path / "y.pt").write_bytes(sound)
        with zipfile.ZipFile(tmp_path / "y.pt") as file:
            members = {info.filename.partition("/")[2]: file.read(info) for info in file.infolist()}
        code = bytearray(members["data.pkl"])
        for at, value in flips:
            code[at % len(code)] = value
        make.archive(tmp_path / "x.pt", bytes(code), {key.rpartition("/")[2]: value for key, value in members.items() if key.startswith("data/")})
    else:
        for at, value in flips:
            raw[at % len(raw)] = value
        (tmp_path / "x.pt").write_bytes(raw)
    try:
        foreign = open_torch(tmp_path / "x.pt")
        for name in foreign.shapes:
            foreign.load(name)
    except ContractError:
        pass
