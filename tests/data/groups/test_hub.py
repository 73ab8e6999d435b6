import json
from pathlib import Path

import pytest

from crossrank.errors import DataError

datasets = pytest.importorskip("datasets")

CARD = """---
configs:
- {config_name: FEVER, data_files: [{split: train, path: FEVER/train.jsonl}]}
- {config_name: FEVER_corpus, data_files: [{split: train, path: FEVER/corpus.jsonl}]}
- {config_name: Other, data_files: [{split: train, path: Other/train.jsonl}]}
- {config_name: Other_corpus, data_files: [{split: train, path: Other/corpus.jsonl}]}
---
"""
CORPUS = [{"id": "d1", "text": "Mars"}, {"id": "d2", "text": "Venus"}]
FEVER = [
    {"question": "red?", "pos_doc": [{"id": "d1"}], "neg_doc": [{"id": "d2"}]},
    {"question": "hot?", "pos_doc": [{"id": "d2"}], "neg_doc": []},
]
OTHER = [{"question_id": "o7", "question": "other?", "pos_doc": [{"id": "d2"}]}]


@pytest.fixture
def hub(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")

    def write(**files):
        defaults = {
            "repo__README.md": CARD,
            "repo__FEVER__dataset_metadata.json": json.dumps({"corpus_id": "fever"}),
            "repo__FEVER__train.jsonl": FEVER,
            "repo__FEVER__corpus.jsonl": CORPUS,
            "repo__Other__dataset_metadata.json": json.dumps({"corpus_id": "other", "ids_only": False}),
            "repo__Other__train.jsonl": OTHER,
            "repo__Other__corpus.jsonl": CORPUS,
        }
        return str(folder(**{**defaults, **files}) / "repo")

    return write


def test_one_subset(hub, check):
    assert check(hub() + "/FEVER") == (
        [("FEVER:0", "red?", [("Mars", 1), ("Venus", 0)]), ("FEVER:1", "hot?", [("Venus", 1)])],
        [],
    )


def test_all_subsets_of_a_repository(hub, check):
    groups, problems = check(hub())
    assert [group[0] for group in groups] == ["FEVER:0", "FEVER:1", "o7"]
    assert groups[2] == ("o7", "other?", [("Venus", 1)])
    assert problems == []


def test_an_address_of_the_hub_is_read_at_one_commit(hub, check, monkeypatch, tmp_path):
    """The hub is played by a local copy: the metadata arrive in a folder named after the commit, the rows by name."""
    folder, asked = Path(hub()), []
    commit = folder.rename(tmp_path / "0123abcd")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **options: asked.append(name) or commit)
    load = datasets.load_dataset

    def load_local(name, configuration, *, split, revision):
        asked.append((name, configuration, revision))
        return load(str(commit), configuration, split=split)

    monkeypatch.setattr(datasets, "load_dataset", load_local)
    groups, _ = check("hf://nvidia/embed/FEVER")
    assert groups[0] == ("FEVER:0", "red?", [("Mars", 1), ("Venus", 0)])
    assert set(asked) == {
        "nvidia/embed",
        ("nvidia/embed", "FEVER_corpus", "0123abcd"),
        ("nvidia/embed", "FEVER", "0123abcd"),
    }


def test_a_hub_that_cannot_be_reached_is_one_sentence(check, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*arguments, **options):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(DataError, match="hf://nvidia/embed: is no dataset on the hub that this login may read, or"):
        check("hf://nvidia/embed")


def test_a_missing_document_is_reported_with_its_row(hub, check):
    rows = [*FEVER, {"question": "cold?", "pos_doc": [{"id": "d9"}], "neg_doc": []}]
    _, problems = check(hub(**{"repo__FEVER__train.jsonl": rows}) + "/FEVER")
    assert problems[0].startswith("missing id 3: document 'd9' is not in the corpus")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"repo__FEVER__dataset_metadata.json": '{"corpus_id": "x", "ids_only": true}'}, "holds ids without texts"),
        ({"repo__FEVER__dataset_metadata.json": "{}"}, "no 'corpus_id'"),
        ({"repo__FEVER__dataset_metadata.json": "{"}, "malformed JSON"),
        ({"repo__README.md": CARD.replace("FEVER_corpus", "corpus")}, r"\(FEVER_corpus, train\): cannot be loaded"),
    ],
)
def test_what_is_not_of_the_schema_is_an_error(hub, check, files, message):
    with pytest.raises(DataError, match=message):
        check(hub(**files) + "/FEVER")


@pytest.mark.parametrize("address", ["hf://nvidia", "hf://a/b/c/d", "hf://a//c"])
def test_a_wrong_address(check, address):
    with pytest.raises(DataError, match="an address is hf://organisation/repository"):
        check(address)
