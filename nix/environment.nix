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

  # Linux wheels expect a few libraries of the system. NixOS has no such place, so they are named; the last one is where it puts the GPU driver.
  libraries = lib.makeLibraryPath [ pkgs.stdenv.cc.cc.lib pkgs.zlib ] + ":/run/opengl-driver/lib";
  setLibraries = lib.optionalString isLinux "export LD_LIBRARY_PATH=${libraries}\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}";

  # bin/python and bin/interlock run the copy in `project`. An edit of the source rebuilds this and that, not `locked`.
  package = pkgs.runCommand "interlock-${name}" { meta.mainProgram = "interlock"; } ''
    mkdir -p $out/bin
    ln -s ${project} $out/project
    ${python.interpreter} -m venv --without-pip $out/venv
    site=lib/python${python.pythonVersion}/site-packages
    {
      echo "import site; site.addsitedir('${locked}/$site')"
      echo ${project}
    } > $out/venv/$site/interlock.pth

    cat > $out/venv/bin/interlock <<'EOF'
    import sys
    from pipeline.cli import main
    sys.exit(main())
    EOF
    # wrap NAME WORDS...: $out/bin/NAME runs the interpreter with these words first, in the same process.
    wrap() {
      program=$out/bin/$1
      shift
      {
        echo '#!${pkgs.runtimeShell}'
        echo '${setLibraries}'
        echo "exec $out/venv/bin/python $* \"\$@\""
      } > $program
      chmod +x $program
    }
    wrap python
    wrap interlock $out/venv/bin/interlock
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
