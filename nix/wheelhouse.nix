# The wheels of one environment in one folder, under their real names, which uv reads. `wheels` is as ci/wheels.py writes it:
# { numpy = { file = "numpy-2.3.5-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"; sha256 = "…"; }; … }
{ pkgs, lib, name, wheels }:
let
  # {distribution}-{version}-{python}-{abi}-{platform}.whl; ci/wheels.py admits no build tag, because fetchPypi has no place for one.
  fetch = { file, sha256 }:
    let part = builtins.elemAt (lib.splitString "-" (lib.removeSuffix ".whl" file)); in
    pkgs.fetchPypi {
      format = "wheel";
      pname = part 0;
      version = part 1;
      dist = part 2;
      python = part 2;
      abi = part 3;
      platform = part 4;
      inherit sha256;
    };
  link = wheel: "ln -s ${fetch wheel} $out/${wheel.file}";
in
pkgs.runCommand "interlock-${name}-wheels" { } ''
  mkdir $out
  ${lib.concatMapStringsSep "\n" link (lib.attrValues wheels)}
''
