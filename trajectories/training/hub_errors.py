"""Errors of the Hub as sentences that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trajectories.domain import redaction
from trajectories.exceptions import TrajectoriesError

_MAX_SAID = 300
_AGAIN = "Repeat the command: files that are uploaded already are not sent again."
_QUOTA = re.compile(r"quota|storage|billing|payment", re.IGNORECASE)


class HubError(TrajectoriesError):
    """The Hub, or the state of a repository on it, does not allow a push. Nothing was committed."""

    status = 502
    type = "hub_error"
    code = "hub_error"


@contextmanager
def hub_errors(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into HubError.

    Raises:
        HubError: the Hub refused, is unavailable, or gave an answer that the library does not
            accept.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise _error("offline", "HF_HUB_OFFLINE is set, so nothing can be pushed: unset it.") from error
    except errors.HFValidationError as error:
        raise _error("invalid_repository", f"{repo_id!r} is not a name of a repository: use org/name.") from error
    except errors.HfHubHTTPError as error:
        raise _of_response(error, repo_id) from error
    except (httpx2.HTTPError, ConnectionError, TimeoutError) as error:
        shown = redaction.quoted(endpoint, max_chars=_MAX_SAID)  # it may have a password
        message = f"The Hub at {shown} does not answer ({type(error).__name__}): check the network and HF_ENDPOINT."
        raise _error("unreachable", f"{message} {_AGAIN}") from error
    except RuntimeError as error:
        # The library wraps what fails in the upload of a file; the cause says what it was.
        with hub_errors(repo_id, endpoint):
            raise error.__cause__ or ValueError(str(error)) from error
    except ValueError as error:
        raise _error("unexpected_answer", f"The Hub refused the upload: {_cut(str(error))}") from error


def _error(code: str, message: str) -> HubError:
    return HubError(message, code=code)


def _of_response(error: Any, repo_id: str) -> HubError:
    from huggingface_hub.errors import DisabledRepoError, RepositoryNotFoundError

    status, said = error.response.status_code, _cut(error.server_message or "")
    quoted = f" The Hub says: {said}" if said else ""
    owner = repo_id.partition("/")[0]
    if isinstance(error, DisabledRepoError):
        return _error("disabled", f"The Hub has disabled {repo_id}: use another repository.{quoted}")
    if status == 401 and isinstance(error, RepositoryNotFoundError):
        return _error(
            "no_token",
            f"The Hub does not show {repo_id} to this token, or there is no token: set HF_TOKEN to a token that may"
            f" write to {owner}.{quoted}",
        )
    if status == 401:
        return _error("invalid_token", f"The Hub does not accept the token: set HF_TOKEN to a valid one.{quoted}")
    if status == 402 or (status == 403 and _QUOTA.search(said)):
        return _error("quota", f"The storage of {owner} is full: free some or extend the plan.{quoted}")
    if status == 403:
        return _error(
            "may_not_write", f"The token may not write to {repo_id}: use one with write access to {owner}.{quoted}"
        )
    if status == 404:
        return _error("not_found", f"The Hub does not know {repo_id}, or {owner}: check the name.{quoted}")
    if status in (409, 412):
        return _error("conflict", f"Someone else changed {repo_id} during the push. {_AGAIN}{quoted}")
    if status == 413:
        return _error("too_large", f"A file or the commit is too large for the Hub: use a filter.{quoted}")
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        when = f" in {wait} seconds" if wait and wait.isdigit() else " later"
        return _error(
            "rate_limited", f"The Hub limits this token's requests. Wait, and try again{when}. {_AGAIN}{quoted}"
        )
    if status >= 500:
        return _error("hub_unavailable", f"The Hub has a fault ({status}). {_AGAIN}{quoted}")
    return _error("refused", f"The Hub refused the push ({status}).{quoted}")


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SAID else text[:_MAX_SAID] + "…"
