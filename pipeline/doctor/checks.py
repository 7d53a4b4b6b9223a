"""The list of checks, in the order in which their findings are shown.

Here: names, groups, limits of time. Not here: what they do (the modules named), what each means (docs/doctor.md).
"""

from __future__ import annotations

from pipeline.doctor.running import Check

OF_MACHINE = (
    Check("system", "machine", "pipeline.doctor.machine:system"),
    Check("interpreters", "machine", "pipeline.doctor.interpreters:interpreters", limit_s=10.0, of_clone=True),
    Check("tools", "machine", "pipeline.doctor.interpreters:tools", limit_s=10.0, of_clone=True),
    Check("memory", "machine", "pipeline.doctor.machine:memory"),
    Check("processors", "machine", "pipeline.doctor.machine:processors"),
    Check("descriptors", "machine", "pipeline.doctor.machine:descriptors"),
    Check("clock", "machine", "pipeline.doctor.machine:clock"),
    Check("text", "machine", "pipeline.doctor.machine:text"),
    Check("compiler", "machine", "pipeline.doctor.machine:compiler"),
    Check("chromium", "machine", "pipeline.doctor.machine:chromium"),
    Check("space", "machine", "pipeline.doctor.disk:space"),
    Check("locks", "environments", "pipeline.doctor.locks:locks", of_clone=True),
    Check("wheel-lists", "environments", "pipeline.doctor.locks:wheel_lists", of_clone=True),
    Check("virtual-environments", "environments", "pipeline.doctor.environments:virtual_environments", limit_s=10.0, of_clone=True),
    Check("installed", "environments", "pipeline.doctor.environments:installed", limit_s=20.0, of_clone=True),
    Check("native-libraries", "environments", "pipeline.doctor.environments:native_libraries", of_clone=True),
    Check("compatibility", "environments", "pipeline.doctor.environments:compatibility", of_clone=True),
    Check("launcher", "launchers", "pipeline.doctor.launchers:named"),
    Check("tox", "launchers", "pipeline.doctor.launchers:tox", of_clone=True),
    Check("nix", "launchers", "pipeline.doctor.launchers:nix", limit_s=10.0),
    Check("container", "launchers", "pipeline.doctor.launchers:container"),
    Check("ssh", "launchers", "pipeline.doctor.launchers:ssh", limit_s=45.0),
    Check("file-system", "store", "pipeline.doctor.disk:file_system"),
    Check("store", "store", "pipeline.doctor.store:contents"),
)
OF_ARTIFACT = (
    Check("contract", "artifact", "pipeline.doctor.proof:contract", limit_s=60.0),
    Check("placeholder", "artifact", "pipeline.doctor.proof:placeholder", limit_s=10.0),
    Check("halt-head", "artifact", "pipeline.doctor.halt:halt_head", limit_s=20.0),
    Check("latent-mode", "artifact", "pipeline.doctor.latent:latent_mode", limit_s=20.0),
    Check("outputs", "artifact", "pipeline.doctor.outputs:outputs", limit_s=20.0),
    Check("shapes", "artifact", "pipeline.doctor.shapes:shapes", limit_s=20.0),
    Check("producers", "artifact", "pipeline.doctor.origin:producers", limit_s=10.0),
    Check("converter-messages", "artifact", "pipeline.doctor.origin:converter_messages", limit_s=10.0),
    Check("device-rules", "artifact", "pipeline.doctor.proof:device_rules", limit_s=30.0),
)
