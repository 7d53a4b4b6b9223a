"""What a source spec stands for, as digests for the import stage's key, without opening the model.

Here: hashing what a spec names. Not here: reading it (pipeline/sources).
"""

from __future__ import annotations

from pathlib import Path

from interlock.contracts.io import sha256_file, walk


def of(spec: str, tokenizer: Path | None) -> dict[str, str]:
    """Digests by name. A registry package is pinned by hash in the environment's lock, which is in every key: its name says all."""
    found = {"spec": spec.partition(":")[0] if ":" in spec else "path"}
    scheme, _, rest = spec.partition(":")
    if scheme == "package":
        return {"package": rest}
    found |= _digests(Path(rest if scheme in ("gguf", "hf", "pt") else spec))
    return found | ({f"tokenizer/{name}": digest for name, digest in _digests(tokenizer).items()} if tokenizer else {})


def _digests(path: Path) -> dict[str, str]:
    if path.is_dir():
        return {name: sha256_file(path / name) for name in walk(path) if (path / name).is_file() and not (path / name).is_symlink()}
    return {path.name: sha256_file(path)} if path.exists() else {}
