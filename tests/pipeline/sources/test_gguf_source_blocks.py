"""A quantised GGUF file leaves its own blocks beside the weights, rows in our order: what the `gguf` library says of them, and all carried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.gguf_students import write_gguf
from fakes.quantised_checkpoints import kinds_of
from fakes.students import compressible_student

from interlock.contracts import checkpoint, io
from interlock.voice import SilentVoice

pytestmark = pytest.mark.train
KINDS = kinds_of(compressible_student()) | {"blocks.1.mlp.w1.weight": "Q5_0", "blocks.1.mlp.w3.weight": "Q5_1", "blocks.1.attn.wv.weight": "F16"}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, checkpoint.CheckpointContract]:
    from pipeline.driver import stage
    from pipeline.stages import import_

    folder = tmp_path_factory.mktemp("blocks")
    source = f"gguf:{write_gguf(folder / 'toy.gguf', KINDS)}"
    stage.run(import_.STAGE, import_.Params(out=folder / "checkpoint", toy=True, source=source), SilentVoice())
    return folder / "checkpoint", io.read_artifact(folder / "checkpoint", checkpoint.CheckpointContract)


def test_blocks_are_stored_for_every_quantised_tensor_and_no_other(imported: tuple[Path, checkpoint.CheckpointContract]) -> None:
    from safetensors.torch import load_file

    directory, contract = imported
    quantised = {name: kind for name, kind in KINDS.items() if kind != "F16"}
    blocks = load_file(directory / checkpoint.BLOCKS)
    assert contract.source.quantization == quantised and contract.has_blocks and blocks.keys() == quantised.keys()
    assert all(rows.dtype == torch.uint8 and rows.dim() == 2 for rows in blocks.values())


def test_blocks_decoded_by_the_library_are_the_weights(imported: tuple[Path, checkpoint.CheckpointContract]) -> None:
    import gguf
    from safetensors.numpy import load_file

    directory, contract = imported
    weights, blocks = load_file(directory / checkpoint.WEIGHTS), load_file(directory / checkpoint.BLOCKS)
    queries = np.corrcoef(weights["blocks.0.attn.wq.weight"].reshape(-1), compressible_student().get_parameter("blocks.0.attn.wq.weight").reshape(-1))
    assert queries[0, 1] > 0.99  # in the order that they had before they were written
    for name, kind in contract.source.quantization.items():
        assert np.array_equal(gguf.quants.dequantize(blocks[name], gguf.GGMLQuantizationType[kind]), weights[name])


def test_every_block_of_an_import_is_carried(imported: tuple[Path, checkpoint.CheckpointContract]) -> None:
    from pipeline.coreml.compression.carried import carried
    from pipeline.coreml.compression.gguf_blocks import snr_db
    from pipeline.coreml.compression.stored import Form
    from runtime.student.checkpoint import load_student

    directory, contract = imported
    student = load_student(directory, contract)
    for name, form in carried(directory, contract, student):
        assert isinstance(form, Form), (name, form)
        assert snr_db(student.get_parameter(name).data.numpy(), form.values().astype(np.float32)) > 70  # fp16 itself: 73 to 75


def test_a_dense_file_has_no_blocks(tmp_path: Path) -> None:
    from pipeline.driver import stage
    from pipeline.stages import import_

    source = f"gguf:{write_gguf(tmp_path / 'dense.gguf', {})}"
    stage.run(import_.STAGE, import_.Params(out=tmp_path / "checkpoint", toy=True, source=source), SilentVoice())
    contract = io.read_artifact(tmp_path / "checkpoint", checkpoint.CheckpointContract)
    assert not contract.has_blocks and contract.source.quantization == {} and not (tmp_path / "checkpoint" / checkpoint.BLOCKS).exists()
