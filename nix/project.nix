# The project as it runs: its packages, the definitions and locks of environments, and what environments are made from. One copy for all
# environments of a system, so that driver and stages share it.
{ pkgs, lib, root, pythons }:
let
  # Not tests and docs: an edit there builds nothing anew. The files of Nix are in it, so that launcher `nix` sees when they change.
  kept = [ "interlock" "pipeline" "runtime" "eval" "envs" "nix" "flake.nix" "flake.lock" "default.nix" ];
  top = path: lib.head (lib.splitString "/" (lib.removePrefix "${toString root}/" path));
  source = builtins.path {
    name = "interlock-source";
    path = root;
    filter = path: _: lib.elem (top path) kept && !(lib.elem (baseNameOf path) [ "__pycache__" ".venv" ]);
  };
  # A store is never written again: without this each process would compile what it imports. Times mean nothing there, and nothing needs checking.
  compile = python: "${python.interpreter} -m compileall -q -j 0 --invalidation-mode unchecked-hash $out";
in
pkgs.runCommand "interlock-project" { } ''
  cp -r ${source} $out
  chmod -R u+w $out
  ${lib.concatMapStringsSep "\n" compile pythons}
''
