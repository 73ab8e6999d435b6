"""A data set of the Hugging Face Hub to a folder of this machine: only the files that its reader wants, never code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crossrank.errors import DataError


def dataset_folder(source: str | Path, *, patterns: Iterable[str], revision: str | None = None) -> Path:
    """Return the folder that holds a data set, from the local cache when the hub cannot be reached.

    Args:
        source: A folder of this machine, or a name on the hub.
        patterns: Which files to download, with `*` for anything. A folder of this machine is left as it is.
        revision: Branch, tag or commit on the hub.

    Raises:
        DataError: If it is neither a folder nor a data set of the hub that this login may read.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(str(source), repo_type="dataset", revision=revision, allow_patterns=list(patterns))
        )
    except HFValidationError:
        problem = "is neither a folder on this machine nor a hub name of the form organisation/name"
    except GatedRepoError:
        problem = "is gated: accept its terms on its hub page, then log in with `hf auth login`"
    except RepositoryNotFoundError:
        problem = "is neither a folder on this machine nor a data set on the hub that this login may read"
    except RevisionNotFoundError:
        problem = f"has no revision {revision!r} on the hub: give a branch, a tag or a full commit hash"
    except LocalEntryNotFoundError:
        problem = (
            "is no folder on this machine, not in the hub cache, and the hub cannot be reached: check the name and the "
            "network, or copy the data set here and give its folder"
        )
    except HfHubHTTPError as error:
        problem = f"could not be downloaded: {error}"
    raise DataError(problem, path=source)
