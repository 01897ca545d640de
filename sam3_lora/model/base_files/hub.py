"""Downloads a base model's files from the Hugging Face Hub and explains why it could not."""

from __future__ import annotations

from pathlib import Path

from sam3_lora.errors import ModelError, cause, first_line

HUB_URL = "https://huggingface.co"


def download(name: str, patterns: list[str]) -> Path:
    """Downloads a repository's files where they are not in the local cache yet.

    Args:
        name: ``owner/name`` of a repository.
        patterns: of the files, for example ``["*.json"]``.

    Returns:
        Their folder in the cache.

    Raises:
        ModelError: no such repository, no access, not logged in, no network, no space, or the server refused.
    """
    from httpx import HTTPError
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HTTPError, OSError, ValueError) as error:
        raise explain(name, error) from error


def file_names(name: str) -> list[str]:
    """The files of a repository that a download has just found; nothing where the Hub cannot be asked."""
    from httpx import HTTPError
    from huggingface_hub import list_repo_files

    try:
        return list_repo_files(name)
    except (HTTPError, OSError, ValueError):
        return []


def explain(name: str, error: Exception) -> ModelError:
    """The error to raise for an exception of the Hub's client.

    Args:
        name: ``owner/name`` of the repository.
        error: what the client raised.
    """
    from httpx import HTTPError
    from huggingface_hub import errors, get_token

    offline = "Connect to the internet once so that it is downloaded, or give the path of a folder with it"
    if isinstance(error, errors.GatedRepoError):
        return _no_access(name, logged_in=get_token() is not None)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"There is neither a folder nor a Hugging Face repository named '{name}'",
            "Check the spelling; if the repository is private, log in with 'hf auth login'",
        )
    if cause(error, errors.OfflineModeIsEnabled):
        return ModelError(
            f"'{name}' is not in the local cache, and downloads are disabled (HF_HUB_OFFLINE)",
            "Unset HF_HUB_OFFLINE, or give the path of a folder with the model",
        )
    if refusal := cause(error, errors.HfHubHTTPError):
        status = refusal.response.status_code
        if status == 401:
            return ModelError(
                f"The Hugging Face Hub does not accept your access token for '{name}'",
                "Log in again with 'hf auth login'",
            )
        return ModelError(
            f"The Hugging Face Hub refused '{name}' (HTTP status {status})",
            "Try again later, or give the path of a folder with the model",
        )
    if isinstance(error, errors.IncompleteSnapshotError):
        return ModelError(
            f"The download of '{name}' is incomplete and the Hugging Face Hub cannot be reached to finish it", offline
        )
    if isinstance(error, (errors.LocalEntryNotFoundError, HTTPError, ConnectionError)):
        return ModelError(f"'{name}' is not on this machine and the Hugging Face Hub cannot be reached", offline)
    if isinstance(error, errors.HFValidationError):
        return ModelError(
            f"'{name}' is neither a folder nor a valid repository name",
            f"Give 'demo', a folder, or a name such as facebook/sam3 ({HUB_URL}/facebook/sam3)",
        )
    return ModelError(
        f"'{name}' cannot be downloaded: {first_line(error)}",
        "Free disk space or repair the cache folder (HF_HOME), or give the path of a folder with the model",
    )


def _no_access(name: str, logged_in: bool) -> ModelError:
    page = f"{HUB_URL}/{name}"
    if logged_in:
        return ModelError(
            f"'{name}' is gated, and the account you are logged in with has no access to it",
            f"Request access at {page} and try again when it is granted; the demo needs none",
        )
    return ModelError(
        f"'{name}' is gated, and you are not logged in to the Hugging Face Hub",
        f"Request access at {page}, then log in with 'hf auth login'; the demo needs neither",
    )
