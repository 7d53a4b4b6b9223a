"""Where the rows of a dataset from elsewhere are: one file, or a directory as Hugging Face's `datasets` saves it or its hub has it.

Here: the files of each split, and the digest of all of them. Not here: what is in a file (documents.py).
Layouts: `Dataset.save_to_disk` (state.json), `DatasetDict.save_to_disk` (dataset_dict.json), and data files whose names say their split
(`data/train-00000-of-00002.parquet`, `test.jsonl`). Nothing in a directory is executed: loading scripts are not read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from interlock.contracts.base import check_relative_path
from interlock.contracts.dataset import Origin
from interlock.contracts.io import open_regular, sha256_file
from interlock.contracts.strict import parse_json, shown
from interlock.errors import UsageError, refuse

Form = Literal["jsonl", "parquet", "arrow"]
FORMS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".arrow": "arrow"}
REMEDY = "name a .jsonl, .parquet or .arrow file, or a directory that `datasets` saved; others: `dataset.to_json(FILE)` there, and import that file"

# Words that name a split on the hub, and the name of it here.
_WORDS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
          "test": "test", "testing": "test", "eval": "test"}  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_SPLIT = re.compile(rf"(?:^|[-_.])({'|'.join(_WORDS)})(?:[-_.]|\d|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """The files of each split, in the order of their rows; `used` are all files that were read to know."""

    splits: dict[str, tuple[Path, ...]]
    used: tuple[Path, ...]


def find(source: Path, split: str) -> Found:
    """The rows at `source`; `split` is the name of the one split of what does not say. Raises UsageError and ContractError."""
    split_name(split)
    if not source.exists():
        raise UsageError(f"there is no `{source}`", remedy=REMEDY)
    if not source.is_dir():
        if source.suffix not in FORMS:
            raise UsageError(f"`{source.name}` is no file of rows", remedy=REMEDY)
        return Found({split: (source,)}, (source,))
    root = source.resolve()
    if (root / "dataset_dict.json").exists():
        return _saved_splits(root)
    if (root / "state.json").exists():
        files = _saved(root, "")
        return Found({split: files}, (root / "state.json", *files))
    return _named(root, split)


def split_name(name: str) -> str:
    """The name of a split, which is that of a file too. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{name}` cannot be the name of a split", remedy="give a plain one, such as train, validation or test")
    return name


def origin(source: Path, found: Found, progress: Callable[[int], None]) -> Origin:
    """What the rows were imported from: the sha256 of a file, or of the sorted lines `sha256  name` of a directory's (the form of `sha256sum`)."""
    if not source.is_dir():
        return Origin(form="jsonl" if FORMS[source.suffix] == "jsonl" else "huggingface", name=source.name, sha256=sha256_file(source, progress))
    root = source.resolve()
    digests = {file.relative_to(root).as_posix(): sha256_file(file, progress) for file in found.used}
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return Origin(form="huggingface", name=root.name or "dataset", sha256=hashlib.sha256(lines.encode()).hexdigest())


def _saved_splits(root: Path) -> Found:
    """`DatasetDict.save_to_disk`: a folder for each split."""
    listing = root / "dataset_dict.json"
    names = _json(listing).get("splits")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise refuse(listing, "/splits", expected="a list of names", found=shown(names), remedy=REMEDY)
    for name in names:
        if not _NAME.fullmatch(name):
            raise refuse(listing, "/splits", expected="plain names", found=shown(name), remedy=REMEDY)
    splits = {name: _saved(root, f"{name}/") for name in names}
    states = [root / name / "state.json" for name in splits]
    return Found(splits, (listing, *states, *(file for files in splits.values() for file in files)))


def _saved(root: Path, folder: str) -> tuple[Path, ...]:
    """`Dataset.save_to_disk`: the Arrow files that state.json lists."""
    state = _inside(root, f"{folder}state.json")
    files = _json(state).get("_data_files")
    if not isinstance(files, list) or not files or not all(isinstance(file, dict) for file in files):
        raise refuse(state, "/_data_files", expected="a list of records with `filename`", found=shown(files), remedy=REMEDY)
    return tuple(_inside(root, folder + _plain(state, f"/_data_files/{n}", file.get("filename"))) for n, file in enumerate(files))


def _named(root: Path, split: str) -> Found:
    """Data files of the folder and of its folders, each with its split's word in its own name or that of its folder."""
    files = [file for file in _tree(root) if file.suffix in FORMS]
    splits: dict[str, tuple[Path, ...]] = {}
    unnamed = []
    for file in files:
        words = _SPLIT.search(file.stem) or (_SPLIT.search(file.parent.name) if file.parent != root else None)
        if words is None:
            unnamed.append(file)
            continue
        name = _WORDS[words[1].lower()]
        splits[name] = (*splits.get(name, ()), file)
    if splits and unnamed:
        told = f"`{unnamed[0].relative_to(root)}`, which names none"
        raise refuse(root, "", expected="a split's word in every file's name, or in none", found=told, remedy=f"import one file; {REMEDY}")
    if not files:
        raise refuse(root, "", expected="rows: .jsonl, .parquet or .arrow files, or `state.json`", found="none", remedy=REMEDY)
    if len({file.suffix for file in files}) > 1 or len({file.parent for file in files}) > max(1, len(splits)):
        raise refuse(root, "", expected="one set of rows", found="files of several forms or folders", remedy=f"name the folder of one; {REMEDY}")
    return Found(splits or {split: tuple(files)}, tuple(files))


def _tree(root: Path) -> Iterator[Path]:
    """Files of the folder and two levels below, sorted; hidden ones are left out."""
    for pattern in ("*", "*/*", "*/*/*"):
        for file in sorted(root.glob(pattern)):
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(root).parts):
                yield _inside(root, file.relative_to(root).as_posix())


def _json(file: Path) -> dict[str, Any]:
    with open_regular(file) as stream:
        return parse_json(stream.read((4 << 20) + 1), str(file), remedy=REMEDY)


def _plain(file: Path, where: str, name: object) -> str:
    try:
        return check_relative_path(str(name))
    except ValueError as error:
        raise refuse(file, where, expected=str(error), found=shown(name), remedy=REMEDY) from None


def _inside(root: Path, name: str) -> Path:
    """A file below `root`, after all links. Raises ContractError."""
    remedy = "copy the directory with its links followed (`cp -rL`) and import the copy; the Hugging Face cache keeps links only"
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        raise refuse(root / name, "", expected="a file", found="nothing", remedy=REMEDY) from None
    if not path.is_relative_to(root):
        raise refuse(root / name, "", expected="a file inside the directory", found="a link that leaves it", remedy=remedy)
    return path
