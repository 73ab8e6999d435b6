from unittest.mock import MagicMock

import pytest
from huggingface_hub import errors

from crossrank.errors import CheckpointError
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.hub import NEEDED_FILES

RESPONSE = MagicMock()


@pytest.fixture
def hub(monkeypatch):
    """Answer every download with what the test puts in; remember how it was asked."""
    calls = []

    def answer_with(answer):
        def snapshot_download(name, **kwargs):
            calls.append((name, kwargs))
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
        return calls

    return answer_with


def test_a_name_is_downloaded_at_its_revision_and_without_pickles_or_code(hub, tiny_checkpoint):
    calls = hub(tiny_checkpoint("bert"))
    checkpoint = open_checkpoint("organisation/name", revision="abc")
    assert (checkpoint.name, checkpoint.folder) == ("organisation/name", tiny_checkpoint("bert"))
    assert calls == [("organisation/name", {"revision": "abc", "allow_patterns": list(NEEDED_FILES)})]
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in NEEDED_FILES if "openvino" not in pattern)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RepositoryNotFoundError("404", response=RESPONSE), "nor a repository on the hub"),
        (errors.GatedRepoError("403", response=RESPONSE), "is gated: accept its terms"),
        (errors.RevisionNotFoundError("404", response=RESPONSE), "has no such revision"),
        (errors.LocalEntryNotFoundError("offline"), "not in the hub cache, and the hub cannot be reached"),
        (errors.HfHubHTTPError("500 Server Error", response=RESPONSE), "could not be downloaded: 500 Server Error"),
        (errors.HFValidationError("bad"), "nor a hub name of the form organisation/name"),
    ],
)
def test_an_error_of_the_hub_says_what_to_do(hub, error, message):
    hub(error)
    with pytest.raises(CheckpointError, match=message) as raised:
        open_checkpoint("organisation/name", revision="v1")
    assert "organisation/name (revision v1)" in str(raised.value)


def test_offline_and_not_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="is no folder on this machine"):
        open_checkpoint("organisation/name")
