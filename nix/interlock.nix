# The command `interlock` with every environment of this system: its builds start each stage in the package of its environment.
{ pkgs, lib, environments, driver }:
pkgs.runCommand "interlock" { meta.mainProgram = "interlock"; } ''
  mkdir -p $out/bin $out/environments
  ${lib.concatStringsSep "\n" (lib.mapAttrsToList (name: environment: "ln -s ${environment.package} $out/environments/${name}") environments)}
  {
    echo '#!${pkgs.runtimeShell}'
    echo 'export INTERLOCK_LAUNCHER="''${INTERLOCK_LAUNCHER:-nix}"'
    echo "export INTERLOCK_NIX_ENVIRONMENTS=$out/environments"
    echo 'exec ${environments.${driver}.package}/bin/interlock "$@"'
  } > $out/bin/interlock
  chmod +x $out/bin/interlock
''
