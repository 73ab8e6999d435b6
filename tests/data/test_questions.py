import json

import pytest

from crossrank.data.questions import open_beir_questions, open_corpus_id_questions
from crossrank.errors import DataError


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def beir(tmp_path):
    queries = jsonl(tmp_path / "queries.jsonl", *({"_id": f"q{i}", "text": f"query {i}"} for i in range(3)))
    first = jsonl(tmp_path / "a.jsonl", {"_id": "d1", "text": "Mars"}, {"_id": "d2", "text": "Venus"})
    second = jsonl(tmp_path / "b.jsonl", {"_id": "d3", "text": "Pluto", "page": 7})
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td3\t2\nq1\td1\t0\nq0\td1\t0\n")
    return queries, [first, second], qrels


@pytest.fixture
def corpus_id(tmp_path):
    """Write corpora `wiki` (d1, 2) and `news` (d1), and a file with the rows given."""

    def write(*rows):
        wiki = {"d1": "Mars", 2: "Venus"}
        for name, texts in {"wiki": wiki, "news": {"d1": "Probe lands"}}.items():
            (tmp_path / name).mkdir(exist_ok=True)
            jsonl(tmp_path / name / "train.jsonl", *({"id": key, "text": text} for key, text in texts.items()))
            about = {"class": "TextQADataset", "corpus_id": name}
            (tmp_path / name / "merlin_metadata.json").write_text(json.dumps(about))
        path = tmp_path / "train.json"
        path.write_text(json.dumps({"corpus": [{"path": "wiki"}, {"path": "news"}], "data": rows}, indent=1))
        return path

    return write


def row(**changes):
    base = {"question_id": "q1", "question": "red?", "corpus_id": "wiki", "pos_doc": [{"id": "d1"}], "neg_doc": [2]}
    return {**base, **changes}


def test_several_corpora_of_beir_count_as_one(beir):
    with open_beir_questions(*beir) as found:
        (question,) = found.read()
        assert question[:5] == ("q1", "query 1", "corpus", ("d3",), ("d1",))
        corpus = found.corpora["corpus"]
        assert [document.id for document in corpus] == [corpus.at(i).id for i in range(3)] == ["d1", "d2", "d3"]
        assert corpus.get("d3").metadata == {"page": 7} and corpus.get("d4") is None
        assert found.num_without_positives == 2  # q0 has a negative alone, q2 nothing


def test_judgements_of_unknown_documents_are_errors(beir):
    beir[2].write_text("q1\td9\t1\n")
    with (
        pytest.raises(DataError, match=r"qrels\.tsv:1: document 'd9' is not in the corpus"),
        open_beir_questions(*beir),
    ):
        pass


def test_rows_of_automodel_name_their_corpus(corpus_id):
    path = corpus_id(row(extra=1), row(question_id="q2", corpus_id="news", pos_doc=["d1", {"id": "d1"}], neg_doc=[]))
    with open_corpus_id_questions(path) as found:
        first, second = found.read()
        assert first[:5] == ("q1", "red?", "wiki", ("d1",), ("2",)) and first.fields["extra"] == 1
        assert second.positives == ("d1",)
        wiki, news = found.corpora["wiki"], found.corpora["news"]
        assert (len(wiki), wiki.at(1).text, [d.text for d in wiki]) == (2, "Venus", ["Mars", "Venus"])
        assert news.get("d1").text == "Probe lands" and wiki.get("d1").text == "Mars"
        assert [folder.name for folder in found.corpus_paths] == ["wiki", "news"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus_id": "blog"}, "unknown corpus_id 'blog'"),
        ({"pos_doc": []}, "there is no positive"),
        ({"pos_doc": [{"id": "d9"}]}, "document 'd9' is not in the corpus"),
        ({"question": " "}, "a text that is not empty"),
        ({"question_id": "q0"}, "the id 'q0' stands for another question above"),
    ],
)
def test_bad_rows_name_their_line(corpus_id, changes, message):
    path = corpus_id(row(question_id="q0"), row(**changes))
    with pytest.raises(DataError, match=rf"train\.json:\d+: .*{message}"), open_corpus_id_questions(path):
        pass
