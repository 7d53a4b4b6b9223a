"""Import every direct dependency of the environment that runs this, in its locked version. Run: `python -I nix/imports.py NAME`.

Here: what a check of the flake asks of an environment that was built. Not here: whether a stage works in it (checks.toy).
A dependency that needs what the definition leaves out on purpose (`exclude-dependencies`) is there for its files, and is not imported.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata

from interlock import environments


def main(name: str) -> None:
    env = environments.environment(name)
    environments.admit(env, "nix flake check")
    left_out = {name.replace("-", "_") for name in env.definition["tool"]["uv"].get("exclude-dependencies", ())}
    modules = metadata.packages_distributions()
    for dependency in env.direct:
        for module in sorted(module for module, owners in modules.items() if dependency in owners):
            import_unless(left_out, module)
        print(dependency, metadata.version(dependency))


def import_unless(left_out: set[str], module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] not in left_out:
            raise


if __name__ == "__main__":
    main(sys.argv[1])
