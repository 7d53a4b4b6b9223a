{
  description = "interlock: a build system from a training checkpoint to a verified on-device package";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      # The one place that pairs an environment with an interpreter. A pair that envs/<name>/pyproject.toml forbids fails evaluation.
      interpreters = { export = "python311"; train = "python313"; };
      # The environment in which the command line itself runs; it exists on every system.
      driver = "train";

      systemsOf = name: (lib.importTOML (./envs + "/${name}/pyproject.toml")).tool.interlock.systems;
      systems = lib.unique (lib.concatMap systemsOf (lib.attrNames interpreters));

      perSystem = system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          pythons = lib.mapAttrs (_: attribute: pkgs.${attribute}) (lib.filterAttrs (name: _: lib.elem system (systemsOf name)) interpreters);
          project = import ./nix/project.nix { inherit pkgs lib; root = ./.; pythons = lib.attrValues pythons; };
          environments = lib.mapAttrs (name: python: import ./nix/environment.nix { inherit pkgs lib project python; root = ./envs + "/${name}"; }) pythons;
          interlock = import ./nix/interlock.nix { inherit pkgs lib environments driver; };
          each = part: lib.mapAttrs (_: environment: environment.${part}) environments;
          images = lib.mapAttrs' (name: image: lib.nameValuePair "image-${name}" image) (each "image");
          app = { type = "app"; program = "${interlock}/bin/interlock"; };
        in
        {
          packages = each "package" // { inherit interlock; default = interlock; } // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux images;
          devShells = each "shell" // { default = environments.${driver}.shell; };
          apps = { interlock = app; default = app; };
          checks = each "check" // lib.optionalAttrs (environments ? export) {
            # A whole chain through both environments: a student with random weights, from its checkpoint to a verified deployed directory.
            toy = pkgs.runCommand "check-toy" { } ''
              export HOME=$PWD
              ${interlock}/bin/interlock build random
              ${interlock}/bin/interlock verify models/random/deployed | tee $out
            '';
          };
        };

      outputs = lib.genAttrs systems perSystem;
      output = name: lib.mapAttrs (_: of: of.${name}) outputs;
    in
    lib.genAttrs [ "packages" "devShells" "apps" "checks" ] output;
}
