"""`benchmarks.sizes`: what it says of a folder is what the folder holds, and nothing of one that is not in step with its lock."""

from __future__ import annotations

from pathlib import Path

from benchmarks import sizes
from interlock.environments import Environment


def test_the_bytes_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    env = Environment("small", tmp_path)
    site = tmp_path / ".venv" / "lib" / "python3.13" / "site-packages"
    for name, size in {"torch/lib/a.so": 3000, "torch/b.py": 500, "torch-1.dist-info/METADATA": 7, "numpy/c.py": 1200, "six.py": 30}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"x" * size)
    (tmp_path / "requirements.lock").write_bytes(b"torch==1\n")
    assert sizes.folder(env) is None, "made from another lock, or not yet"
    (tmp_path / ".venv" / ".synced").write_bytes(b"torch==1\n")
    (tmp_path / ".venv" / "lib64").symlink_to("lib")  # not counted twice
    found = sizes.folder(env)
    assert found and found["bytes"] == 3000 + 500 + 7 + 1200 + 30 + len("torch==1\n") + len("lib")
    assert found["packages"] == 1 and list(found["greatest"].items())[:2] == [("torch", 3500), ("numpy", 1200)]
    assert "not made" in sizes.table({"small": {"folder": found, "image": None}})[-1]
