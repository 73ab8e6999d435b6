import json

import pytest

from crossrank.data.published import PublishedSet, cache_folder, open_published, parse_published
from crossrank.errors import DataError, InputError


def write_vidore(folder, text="# Sales"):
    """As ViDoRe V3, in lines, without images: two languages share the pages."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = [{"corpus_id": 1, "markdown": text}, {"corpus_id": 2, "markdown": "# Staff"}]
    queries = [
        {"query_id": 1, "query": "Sales?", "language": "english"},
        {"query_id": 2, "query": "Ventes ?", "language": "french"},
    ]
    qrels = [{"query_id": i, "corpus_id": 1, "score": 1} for i in (1, 2)]
    for name, rows in (("corpus", pages), ("queries", queries), ("qrels", qrels)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_reranking(folder):
    folder.mkdir(parents=True)
    tables = {
        "de-corpus": [{"id": f"d{i}", "text": f"text {i}"} for i in range(3)],
        "de-queries": [{"id": "q", "text": "Frage"}],
        "de-qrels": [{"query-id": "q", "corpus-id": "d0", "score": 1}],
        "de-top_ranked": [{"query-id": "q", "corpus-ids": ["d2", "d1"]}],
    }
    for name, rows in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_local_copy_is_read_once_and_opened_from_the_cache(tmp_path):
    source, cache, counted = write_vidore(tmp_path / "hr"), tmp_path / "cache", []
    published = PublishedSet("vidore", str(source), language="en")
    for _ in range(2):
        with open_published(published, cache=cache, on_progress=counted.append) as data:
            assert (data.name, data.language, data.split) == ("hr", "en", "test")
            assert data.queries == {"1": "Sales?", "2": "Ventes ?"}
            assert data.corpus.get("1").text == "# Sales"
            assert data.candidates is None
    assert counted == [1, 1], "the second time nothing is read from the source"
    (folder,) = cache.iterdir()
    assert folder.name.startswith("vidore-hr-test-")


def test_languages_share_one_folder(tmp_path):
    source, cache = write_vidore(tmp_path / "hr"), tmp_path / "cache"
    for language, query in (("english", "1"), ("french", "2")):
        with open_published(PublishedSet("vidore", str(source), query_language=language), cache=cache) as data:
            assert list(data.qrels) == [query]
            assert data.name == f"hr-{language}"
    assert len(list(cache.iterdir())) == 1
    german = PublishedSet("vidore", str(source), query_language="german")
    stated = "no query in 'german': the queries state english, french"
    with pytest.raises(DataError, match=stated), open_published(german, cache=cache):
        pass


def test_a_changed_source_is_read_again(tmp_path):
    source, cache = write_vidore(tmp_path / "hr"), tmp_path / "cache"
    published = PublishedSet("vidore", str(source))
    with open_published(published, cache=cache):
        pass
    write_vidore(source, text="# Sales and more")
    with open_published(published, cache=cache) as data:
        assert data.corpus.get("1").text == "# Sales and more"


def test_given_candidates_come_along(tmp_path):
    source = write_reranking(tmp_path / "reranking")
    (published,) = parse_published(f"mteb:{source}:de")
    with open_published(published, cache=tmp_path / "cache") as data:
        assert data.candidates == {"q": ["d2", "d1"]}
        assert (data.name, data.language) == ("reranking-de", "de")


def test_a_hub_name_without_network_says_what_to_do(tmp_path, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_, **__):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    published = PublishedSet("mteb", "mteb/nq")
    what = "mteb/nq: is no folder on this machine, not in the hub cache"
    with pytest.raises(DataError, match=what), open_published(published, cache=tmp_path / "cache"):
        pass
    assert not (tmp_path / "cache").exists()


def test_what_the_command_line_writes():
    assert parse_published("some/folder") == []
    assert parse_published("mteb") == []
    (one,) = parse_published("mteb:mteb/MIRACLReranking:sw", split="dev")
    assert (one.layout, one.source, one.config, one.split) == ("mteb", "mteb/MIRACLReranking", "sw", "dev")
    assert (one.language, one.family) == ("sw", "mteb")
    pairs = parse_published("mlqa:mteb/MLQARetrieval")
    assert len(pairs) == 42
    assert [(pair.config, pair.language) for pair in pairs][:2] == [("ar.de", "de-ar"), ("ar.en", "en-ar")]
    pools = parse_published("xquad:folder")
    assert len({pool.title for pool in pools}) == 35
    assert {pool.family for pool in pools} == {"xquad", "xquad x2en", "xquad mixed"}
    (nano,) = parse_published("nanobeir:sentence-transformers/NanoBEIR-en:NanoNQ")
    assert (nano.language, nano.family, nano.title) == (None, None, "NanoBEIR-en-NanoNQ")
    with pytest.raises(InputError, match="'techqa:' names no source"):
        parse_published("techqa:")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CROSSRANK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "datasets"
    monkeypatch.delenv("CROSSRANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crossrank" / "datasets"


@pytest.mark.parametrize("config", ["french", "fr"])
def test_a_language_of_pages_is_named_by_word_or_code(tmp_path, config):
    source, cache = write_vidore(tmp_path / "hr"), tmp_path / "cache"
    (published,) = parse_published(f"vidore:{source}:{config}")
    assert (published.title, published.language, published.family) == ("hr-french", "fr-en", "hr")
    with open_published(published, cache=cache) as data:
        assert (list(data.qrels), data.language) == (["2"], "fr-en")
    (energy,) = parse_published("vidore:vidore/vidore_v3_energy:fr")
    assert (energy.language, energy.family) == ("fr", "vidore_v3_energy")


def test_queries_that_are_documents_are_known_by_the_name_of_the_set():
    named = ("mteb:mteb/arguana", "nanobeir:sentence-transformers/NanoBEIR-en:NanoQuoraRetrieval", "mteb:mteb/fiqa",
             "mteb:quora-copies/fiqa/")  # fmt: skip
    assert [parse_published(text)[0].queries_are_documents for text in named] == [True, True, False, False]


def test_the_split_is_named_that_was_read(tmp_path):
    """As mteb/MIRACLReranking, whose only split is dev, where the layout's own is test."""
    source = write_reranking(tmp_path / "reranking")
    for file in source.glob("*.jsonl"):
        (source / file.stem).mkdir()
        file.rename(source / file.stem / "dev.jsonl")
    (published,) = parse_published(f"mteb:{source}:de")
    for _ in range(2):
        with open_published(published, cache=tmp_path / "cache") as data:
            assert data.split == "dev"
