"""All that a builder and a cleaner do with a store, in milliseconds: artifacts made, inserted, recorded, placed, taken back and removed."""

from __future__ import annotations

from pathlib import Path

from fakes.publications import NEW, OLD, build, state

from interlock import fs
from interlock.calls import Fs
from interlock.contracts import checkpoint, io
from interlock.errors import ContractError
from pipeline.driver import fsck, gc, keys
from pipeline.driver.outputs import Outputs
from pipeline.driver.store import Lease, Store


def work(folder: Path, system: Fs | None = None) -> None:
    """Ends with the artifact OLD in `out`, which is rolled back to, and nothing in the store but it and NEW."""
    store = Store(folder / "home" / "store", system or Fs())
    outputs = Outputs(folder / "home", store)
    store.prepare()
    with Lease(store) as lease:
        for fill in (OLD, NEW):
            outputs.place(folder / "out", make(store, fill, lease), lease)
        outputs.rollback(folder / "out", None, lease)
        make(store, 3, lease)  # nobody's
    gc.collect(store, outputs, keep_s=-1)


def make(store: Store, fill: int, lease: Lease) -> str:
    """One artifact under its key, as pipeline.driver.build makes it; kept where it is there. Returns its digest."""
    preimage = {"fill": fill}
    key = keys.key_of(preimage)
    known = store.action(key)
    if known and lease.hold(known["output"]["digest"]):
        return str(known["output"]["digest"])
    with store.workplace(key) as place:
        build(place / "out", fill, store.fs)
        digest = io.read_artifact(place / "out", checkpoint.CheckpointContract).digest
        store.insert(place / "out", digest, lease)
    store.record(key, {"output": {"digest": digest}, "preimage": preimage})
    return digest


def wrong(folder: Path) -> list[str]:
    """What a reader may never find, whatever was killed or lost: an output or a stored object that is not what its contract says."""
    found = []
    try:
        if state(folder / "out") not in (None, OLD, NEW):
            found.append("another artifact in out")
    except ContractError as error:
        found.append(f"out: {error}")
    store = Store(folder / "home" / "store")
    found += [path.name for path in (store.root / "objects").glob("*/*") if fs.PARTIAL not in path.name and not store.sound(path.name)]
    return found


def unclean(folder: Path) -> list[str]:
    """What a finished run may not leave."""
    store = Store(folder / "home" / "store")
    findings = [finding.path for finding in fsck.check(store)]
    folders = [path.name for path in folder.rglob(f"*{fs.PARTIAL}*") if path.is_dir()]
    objects = list((store.root / "objects").glob("*/*"))
    return [*findings, *folders, *(["objects"] if len(objects) != 2 else []), *(path.name for path in (store.root / "leases").iterdir())]
