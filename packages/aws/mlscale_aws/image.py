"""The application's image, looked at before anything is created: it is there, runs on Fargate, and has the bodies."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlscale.environments.base import Problem
from mlscale.runs import MlscaleError
from mlscale_aws.account import Account

# Label of an image: the sha256 of the files to send that it holds (`BodySet.facts`).
LABEL: Final = "mlscale.bodies"
# Repositories that the guard's role may pull from.
_OURS: Final = "mlscale-"
_ECR: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com/(?P<repository>[^:@]+)"
    r"(?::(?P<tag>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
# What docker and buildah push: manifests of one platform, and indexes of several.
_MANIFESTS: Final = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
_WHERE: Final = "--scaling image"
_READ_S: Final = 30.0


def image_problems(account: Account, image: str, bodies_sha256: str | None) -> Iterator[Problem]:
    """What keeps tasks on Fargate from starting with ``image``, or the load from being sent.

    Args:
        bodies_sha256: of the files to send; None: not known yet.
    Raises:
        MlscaleError: no such repository, or AWS refuses.
    """
    found = _ECR.fullmatch(image)
    if found is None or found["account"] != account.number() or not found["repository"].startswith(_OURS):
        what = f"the guard's role pulls from this account's repositories {_OURS}* alone"
        yield Problem(what, _WHERE, f"push it to {account.number()}.dkr.ecr.REGION.amazonaws.com/{_OURS}NAME")
        return
    registry = account if found["region"] == account.region else Account(found["region"], account.profile)
    wanted = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"] or "latest"}
    manifest = _manifest(registry, found["repository"], wanted)
    several = [each for each in manifest.get("manifests", ()) if _on_fargate(each.get("platform", {}))]
    if several:
        manifest = _manifest(registry, found["repository"], {"imageDigest": several[0]["digest"]})
    config = _config(registry, found["repository"], manifest) if "config" in manifest else {}
    if not _on_fargate(config):
        yield Problem(
            "it is not built for linux/amd64, which tasks run on",
            _WHERE,
            "docker build --platform linux/amd64, see docs/aws.md",
        )
        return
    label = (config.get("config", {}).get("Labels") or {}).get(LABEL)
    if bodies_sha256 is not None and label != bodies_sha256:
        remedy = f"docker build with these in it and --label {LABEL}={bodies_sha256}, see docs/aws.md"
        yield Problem(f"its label {LABEL} does not name the files to send", _WHERE, remedy)


def _on_fargate(platform: Mapping[str, Any]) -> bool:
    """The platform of ecs.yaml's tasks, which name none."""
    return (platform.get("os"), platform.get("architecture")) == ("linux", "amd64")


def _manifest(account: Account, repository: str, image: Mapping[str, str]) -> dict[str, Any]:
    answer = account.call(
        "ecr", "batch_get_image", repositoryName=repository, imageIds=[image], acceptedMediaTypes=_MANIFESTS
    )
    if not answer.get("images"):
        what = f"there is no image {next(iter(image.values()))} in {repository}"
        raise MlscaleError(what, f"ECR in {account.region}", "docker push it, see docs/aws.md")
    return dict(json.loads(answer["images"][0]["imageManifest"]))


def _config(account: Account, repository: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """An image's configuration, which ECR keeps as a layer."""
    digest = str(manifest["config"]["digest"])
    answer = account.call("ecr", "get_download_url_for_layer", repositoryName=repository, layerDigest=digest)
    try:
        with urllib.request.urlopen(answer["downloadUrl"], timeout=_READ_S) as response:
            return dict(json.loads(response.read()))
    except OSError as error:
        raise MlscaleError(f"the image can't be read: {error}", f"ECR in {account.region}", "try again") from error
