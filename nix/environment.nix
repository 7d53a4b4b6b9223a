# One environment: the locked files and the project on top of them, as a package, a shell, an image and a check. Reads envs/<name>, and decides
# nothing about versions.
{ pkgs, lib, python, root, project }:
let
  name = baseNameOf root;
  definition = lib.importTOML (root + "/pyproject.toml");
  lock = root + "/requirements.lock";
  inherit (pkgs.stdenv.hostPlatform) system isLinux;
  list = lib.importJSON (root + "/wheels-${system}.json");
  satisfies = import ./requires.nix { inherit lib; };
  wheelhouse = import ./wheelhouse.nix { inherit pkgs lib name; inherit (list) wheels; };

  # The locked files alone: gigabytes, built anew only when the lock changes. uv installs the lock; the list says no more than where its files are.
  locked = pkgs.runCommand "interlock-${name}-locked" { nativeBuildInputs = [ pkgs.uv ]; } ''
    export HOME=$PWD UV_CACHE_DIR=$PWD/cache UV_OFFLINE=1 UV_NO_CONFIG=1 UV_PYTHON_DOWNLOADS=never
    unset PYTHONPATH
    ${python.interpreter} -m venv --without-pip $out
    PYC_INVALIDATION_MODE=UNCHECKED_HASH uv pip install --quiet --python $out/bin/python --no-index --no-deps --compile-bytecode \
      --find-links ${wheelhouse} --require-hashes --requirement ${lock}
  '';

  # What the locked Linux wheels need of a system beside glibc: the NEEDED entries that no wheel brings. NixOS has no place where they would be found, so
  # the interpreter loads them when it starts, by their paths; a library that is there already is not looked for. LD_LIBRARY_PATH would reach every
  # process that a stage starts, compilers and nix itself among them, which need their own.
  libraries = lib.optionals isLinux [
    "${lib.getLib pkgs.stdenv.cc.cc}/lib/libgcc_s.so.1"
    "${lib.getLib pkgs.stdenv.cc.cc}/lib/libstdc++.so.6"
    "${lib.getLib pkgs.zlib}/lib/libz.so.1"
    "${lib.getLib pkgs.libuuid}/lib/libuuid.so.1" # coremltools' libmodelpackage
  ];

  # bin/python and bin/interlock run the copy in `project`. An edit of the source rebuilds this and that, not `locked`.
  package = pkgs.runCommand "interlock-${name}" { meta.mainProgram = "interlock"; } ''
    ${python.interpreter} -m venv --without-pip $out
    ln -s ${project} $out/project
    site=lib/python${python.pythonVersion}/site-packages
    {
      ${lib.concatMapStringsSep "\n" (path: "echo \"import ctypes; ctypes.CDLL('${path}')\"") libraries}
      echo "import site; site.addsitedir('${locked}/$site')"
      echo ${project}
    } > $out/$site/interlock.pth
    {
      echo "#!$out/bin/python"
      echo "import sys; from pipeline.cli import main; sys.exit(main())"
    } > $out/bin/interlock
    chmod +x $out/bin/interlock
  '';
in
assert lib.assertMsg (satisfies python.version definition.project.requires-python)
  "envs/${name} needs Python ${definition.project.requires-python}, flake.nix gives it ${python.version}";
assert lib.assertMsg (list.python == python.pythonVersion)
  "envs/${name}/wheels-${system}.json is for Python ${list.python}, flake.nix gives it ${python.pythonVersion}: run ci/lock";
assert lib.assertMsg (list.lock == builtins.hashFile "sha256" lock)
  "envs/${name}/wheels-${system}.json was made from another requirements.lock: run ci/lock";
{
  inherit package;

  # In a shell the working tree runs, also from a folder in it, and its builds start every stage through launcher `nix`.
  shell = pkgs.mkShell {
    name = "interlock-${name}";
    packages = [ package ];
    shellHook = ''
      root=$PWD
      until [ -z "$root" ] || [ -e "$root/pipeline/here.py" ]; do root=''${root%/*}; done
      if [ -z "$root" ]; then
        echo "interlock: this shell runs a working tree, and \`$PWD\` is in none" >&2
        echo "hint: change to a clone of the repository, or run the flake's own copy: nix run …#interlock -- VERB" >&2
        exit 4
      fi
      export PYTHONPATH=$root INTERLOCK_LAUNCHER=nix
    '';
  };

  # `docker load` reads what the built program prints. One environment in it, so its stages run in the interpreter that is there.
  image = pkgs.dockerTools.streamLayeredImage {
    name = "interlock-${name}";
    tag = "latest";
    contents = [ package ];
    extraCommands = "mkdir -m 1777 tmp work";
    config = {
      Entrypoint = [ "${package}/bin/interlock" ];
      Env = [ "HOME=/work" "USER=interlock" "INTERLOCK_LAUNCHER=current" ]; # libraries ask for the user's name, and there is no /etc/passwd
      WorkingDir = "/work";
      User = "1000:1000";
      Labels = { "interlock.environment" = name; "interlock.lock" = list.lock; };
    };
  };

  check = pkgs.runCommand "check-${name}" { } ''
    export HOME=$PWD
    ${package}/bin/interlock --version
    ${package}/bin/interlock stages --launcher current
    ${package}/bin/python -I ${./imports.py} ${name} | tee $out
  '';
}
