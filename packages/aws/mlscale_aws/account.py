"""An AWS account in one region: clients, paginated lists, and errors that a user can understand."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
)

from mlscale.runs import MlscaleError
from mlscale.runs.clock import Skew

# Templates and policies.
CLOUD: Final = Path(__file__).with_name("cloud")
_CONFIG: Final = Config(
    retries={"mode": "adaptive", "max_attempts": 8}, connect_timeout=10, read_timeout=30, user_agent_extra="mlscale"
)
_NO_CREDENTIALS: Final = (NoCredentialsError, PartialCredentialsError, SSOTokenLoadError, TokenRetrievalError)
_EXPIRED: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "AuthFailure",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "RequestTimeTooSkewed",
    }
)
# AWS refuses signatures that are more than 5 minutes from its own clock (Signature Version 4); with some tolerance, s.
_SKEW_S: Final = 240.0
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})


class Account:
    """Clients for one region, created on first use.

    Args:
        region: such as "eu-central-1"; profile: of the AWS configuration. None: as the environment or the AWS
            configuration says.
    """

    def __init__(self, region: str | None = None, profile: str | None = None) -> None:
        with explained("AWS configuration"):
            self._session = boto3.Session(region_name=region, profile_name=profile)
            found = self._session.region_name
        if found is None:
            raise MlscaleError("no region is set", "AWS configuration", "set AWS_REGION, or --scaling region=NAME")
        self.region: str = found
        # "default" is also what boto3 calls keys from the environment.
        self.profile = None if self._session.profile_name == "default" else str(self._session.profile_name)
        self.skew = Skew()
        self._clients: dict[str, Any] = {}
        self._sent_at = 0.0

    def client(self, service: str) -> Any:
        """The boto3 client of a service."""
        if service not in self._clients:
            client = self._session.client(service, config=_CONFIG)
            client.meta.events.register("provide-client-params", self._on_send)
            client.meta.events.register("after-call", self._on_answer)
            self._clients[service] = client
        return self._clients[service]

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one API call. Raises MlscaleError."""
        with explained(f"{service} {operation}"):
            answer: dict[str, Any] = getattr(self.client(service), operation)(**parameters)
            return answer

    def listed(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """The elements of ``key`` from all pages. Raises MlscaleError."""
        with explained(f"{service} {operation}"):
            pages = self.client(service).get_paginator(operation).paginate(**parameters)
            return [element for page in pages for element in page.get(key, ())]

    def number(self) -> str:
        """The account's number; also checks the credentials. Raises MlscaleError."""
        return str(self.call("sts", "get_caller_identity")["Account"])

    def now(self) -> float:
        """Unix time by AWS's clock, estimated."""
        return time.time() + self.skew.middle_s

    def _on_send(self, **_: Any) -> None:
        self._sent_at = time.time()

    def _on_answer(self, parsed: Mapping[str, Any], **_: Any) -> None:
        headers = parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        if "date" in headers:
            self.skew = self.skew.narrowed(parsedate_to_datetime(headers["date"]), self._sent_at, time.time())


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn botocore's errors within the block into an MlscaleError."""
    try:
        yield
    except _NO_CREDENTIALS as error:
        raise MlscaleError(
            "no AWS credentials", where, "use aws configure or aws sso login, or set AWS_PROFILE"
        ) from error
    except ProfileNotFound as error:
        raise MlscaleError(str(error), where, "see ~/.aws/config") from error
    except ClientError as error:
        raise _explained_client_error(error, where) from error
    except (ConnectionError, HTTPClientError) as error:
        raise MlscaleError(f"AWS can't be reached: {error}", where, "check the network, then try again") from error
    except BotoCoreError as error:
        raise MlscaleError(str(error), where, "see the message") from error


def _explained_client_error(error: ClientError, where: str) -> MlscaleError:
    code, message = _code_and_message(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    behind_s = _behind_s(error)
    if code in _EXPIRED and abs(behind_s) > _SKEW_S:
        side = "behind" if behind_s > 0 else "ahead of"
        what = f"AWS refuses this machine's signatures: its clock is {abs(behind_s) / 60:.0f} min {side} AWS's"
        return MlscaleError(what, where, "set the clock (timedatectl set-ntp true), then try again")
    if code in _EXPIRED:
        return MlscaleError(
            "the AWS credentials are expired or wrong", where, "renew them (aws sso login), then try again"
        )
    if code in _DENIED:
        return MlscaleError(f"not allowed: {message}", where, f"attach {CLOUD / 'user-policy.json'}, see docs/aws.md")
    if code in _THROTTLED:
        return MlscaleError("AWS is throttling the account's calls", where, "wait a minute, then try again")
    if status >= 500:
        return MlscaleError(f"AWS failed: {message}", where, "wait a minute, then try again")
    return MlscaleError(message, where, "see the message")


def is_gone(error: MlscaleError) -> bool:
    """Whether the error says that the resource does not exist."""
    if not isinstance(error.__cause__, ClientError):
        return False
    code, message = _code_and_message(error.__cause__)
    return "NotFound" in code or (code == "ValidationError" and "does not exist" in message)


def _behind_s(error: ClientError) -> float:
    """How far this machine's clock is behind AWS's, s, by the date of its answer."""
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(date).timestamp() - time.time() if date else 0.0


def _code_and_message(error: ClientError) -> tuple[str, str]:
    answer = error.response.get("Error", {})
    code = str(answer.get("Code", ""))
    return code, str(answer.get("Message", "")) or code
