"""The profile that a name or a file stands for: one that was fitted to runs, or one composed for a cloud."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlscale.atomic import write_text
from mlscale.runs import MlscaleError
from mlscale_twin.cloud import cloud_profile
from mlscale_twin.profile import Profile, fitted_profile, profile_names


def read_profile(which: str | Path, k3s: Profile | None = None) -> Profile:
    """The profile of an environment, of a cloud's variant such as "eks-fargate", or of a file.

    KEDA has no numbers of its own: its pods and its HPA are Kubernetes'.

    Args:
        k3s: that a cloud's and KEDA's are composed with; None: the shipped one.

    Raises:
        MlscaleError: it is missing or invalid.
    """
    if which == "keda":
        changes = {"environment": "keda", "validated": "not validated", "compared": None}
        return (k3s or fitted_profile("k3s")).model_copy(update=changes)
    if isinstance(which, str) and which not in profile_names():
        return cloud_profile(which, k3s=k3s)
    return fitted_profile(which)


def write_profile(profile: Profile, file: Path) -> None:
    """Write what `read_profile` reads.

    Raises:
        MlscaleError: it can't be written.
    """
    write_text(file, profile.model_dump_json(indent=2, exclude_none=True) + "\n")


def read_profiles(files: Sequence[Path], environments: Sequence[str]) -> dict[str, Profile]:
    """The profiles in ``files``, by environment.

    Raises:
        MlscaleError: one is missing or invalid, is for none of the ``environments``, or for the same as another.
    """
    profiles: dict[str, Profile] = {}
    for file in files:
        profile = read_profile(file)
        name = profile.environment
        if name not in environments:
            what = f"it is for {name}, which is not among {', '.join(environments)}"
            raise MlscaleError(what, str(file), f"leave it out, or add {name}")
        if name in profiles:
            raise MlscaleError(f"two profiles are for {name}", str(file), "keep one of them")
        profiles[name] = profile
    return profiles
