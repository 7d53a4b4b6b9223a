# The flake's outputs of the working tree as it lies there, as in: nix build --file . packages.x86_64-linux.train
# Launcher `nix` enters here. A flake of a git checkout would leave out files that git does not know yet; one of a plain folder would copy all of it,
# with the environments, models and stores that lie in a working tree.
let
  inherit ((builtins.fromJSON (builtins.readFile ./flake.lock)).nodes) nixpkgs;
  source = builtins.unsafeDiscardStringContext (builtins.fetchTree nixpkgs.locked).outPath; # getFlake takes a path without its origin
  outputs = (import ./flake.nix).outputs { self = outputs; nixpkgs = builtins.getFlake source; };
in
outputs
