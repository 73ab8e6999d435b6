"""A checkpoint of the Hugging Face Hub to a folder of this machine: only the files that scoring reads."""

from __future__ import annotations

from pathlib import Path

from crossrank.errors import CheckpointError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
)
# How images are prepared.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# Never a pickle, never Python code. A module folder of sentence-transformers is named as in "2_Dense".
NEEDED_FILES = (
    "config.json",
    "crossrank.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    *TOKENIZER_FILES,
    *PROCESSOR_FILES,
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "[0-9]*_*/config.json",
    "[0-9]*_*/model.safetensors",
    "openvino/openvino_model.xml",
    "openvino/openvino_model.bin",
)


def download(name: str, *, revision: str | None) -> Path:
    """Return the folder of a hub checkpoint, from the local cache when the hub cannot be reached.

    Raises:
        CheckpointError: If the repository, the revision or the access to it is missing; says what to do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    at = f"{name} (revision {revision})" if revision else name
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(NEEDED_FILES)))
    except HFValidationError:
        problem = "is neither a folder on this machine nor a hub name of the form organisation/name"
    except GatedRepoError:
        problem = "is gated: accept its terms on its hub page, then log in with `hf auth login`"
    except RepositoryNotFoundError:
        problem = "is neither a folder on this machine nor a repository on the hub that this login may read"
    except RevisionNotFoundError:
        problem = "has no such revision on the hub: give a branch, a tag or a full commit hash"
    except LocalEntryNotFoundError:
        problem = (
            "is no folder on this machine, not in the hub cache, and the hub cannot be reached: check the name and the "
            "network, or copy the checkpoint here and give its folder"
        )
    except HfHubHTTPError as error:
        problem = f"could not be downloaded: {error}"
    raise CheckpointError(f"{at} {problem}")
