"""AWS's part of ``mlscale doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mlscale.commands.doctor import Finding


def check_credentials() -> Iterable[Finding]:
    """Whether AWS credentials are configured. Looks only at names; reads no key."""
    variables = [name for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN") if os.environ.get(name)]
    files = [str(file) for file in (Path.home() / ".aws/credentials", Path.home() / ".aws/config") if file.is_file()]
    yield Finding("AWS", "not yet", ", ".join(variables + files) or "no AWS credentials", "not measured live yet")
