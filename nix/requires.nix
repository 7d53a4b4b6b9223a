# PEP 440 as far as `requires-python` needs it. Example: satisfies "3.11.7" ">=3.10,<3.12" is true.
{ lib }:
let
  holds = version: clause:
    let
      parts = builtins.match " *(>=|<=|==|!=|<|>) *([0-9]+(\\.[0-9]+)*)(\\.\\*)? *" clause;
      operator = builtins.elemAt parts 0;
      bound = builtins.elemAt parts 1;
      wildcard = builtins.elemAt parts 3 != null;
      same = if wildcard then lib.hasPrefix "${bound}." "${version}." else version == bound;
    in
    if parts == null || (wildcard && operator != "==" && operator != "!=")
    then throw "requires-python: cannot read '${clause}' (known: >= <= == != < > and ==X.Y.*)"
    else {
      ">=" = lib.versionAtLeast version bound;
      "<=" = lib.versionAtLeast bound version;
      "<" = lib.versionOlder version bound;
      ">" = lib.versionOlder bound version;
      "==" = same;
      "!=" = !same;
    }.${operator};
in
version: specifiers: lib.all (holds version) (lib.splitString "," specifiers)
