"""Tables of queries and page images, and negatives from other pages of the same document."""

import pyarrow
import pytest
from pyarrow import parquet
from tests.data.groups.pages import page

from crossrank.data.groups.build import check_data, open_groups
from crossrank.encoding.images import check_image
from crossrank.errors import DataError

NUM_PAGES = 6


@pytest.fixture
def colpali(tmp_path):
    """As vidore/colpali_train_set lies on the hub: two documents of six pages, a query for some of them."""
    shades = [(name, number) for name in ("report", "slides") for number in range(1, NUM_PAGES + 1)]
    columns = {
        "query": [f"{name} {number}?" if number in (1, 2, 5) else None for name, number in shades],
        "image": [
            {"bytes": page(10 * number + ord(name[0])), "path": f"{name}/page_{number}.png"} for name, number in shades
        ],
        "image_filename": [f"data/{name}.pdf/page_{number}.png" for name, number in shades],
        "source": ["pdf"] * len(shades),
    }
    (tmp_path / "set/data").mkdir(parents=True)
    table = pyarrow.table(columns)
    parquet.write_table(table.slice(0, 6), tmp_path / "set/data/train-00000-of-00002.parquet")
    parquet.write_table(table.slice(6), tmp_path / "set/data/train-00001-of-00002.parquet")
    return tmp_path / "set"


def groups_of(path, config, **rest):
    groups = open_groups(config(path, **rest), check_image=check_image).train
    return [groups.sample(i, epoch=0) for i in range(len(groups))]


def test_a_query_and_its_page_are_a_group(colpali, config):
    groups = groups_of(str(colpali), config, negatives={"num": 3})
    assert sorted(group.query for group in groups) == [f"{d} {n}?" for d in ("report", "slides") for n in (1, 2, 5)]
    for group in groups:
        document, number = group.query.rstrip("?").split()
        assert group.documents[0].id == f"data/{document}.pdf/page_{number}.png"
        assert len({d.image for d in group.documents}) == 4 and group.labels == (1, 0, 0, 0)


@pytest.mark.parametrize("sampling", ["top", "random", "rotate", "mixed"])
def test_negatives_of_the_same_document(colpali, config, sampling):
    negatives = {"num": 3, "same_document": 2, "sampling": sampling}
    for group in groups_of(str(colpali), config, negatives=negatives):
        name = group.query.split()[0]
        inside = [name in document.id for document in group.documents]
        print(group.query, [document.id for document in group.documents])
        assert inside[:3] == [True] * 3 and len({document.id for document in group.documents}) == 4


def test_the_nearest_pages_come_first(colpali, config):
    [group] = [
        group
        for group in groups_of(str(colpali), config, negatives={"num": 4, "same_document": 4})
        if group.query == "report 5?"
    ]
    assert [document.id[-5] for document in group.documents] == ["5", "4", "6", "3", "2"]


def test_a_document_with_too_few_pages_is_filled_up(colpali, config):
    for group in groups_of(str(colpali), config, negatives={"num": 7, "same_document": 7}):
        inside = [group.query.split()[0] in document.id for document in group.documents]
        assert inside == [True] * 6 + [False] * 2  # only pages with a query of their own fill up


def test_epochs_rotate_and_depend_on_the_query_alone(colpali, config):
    negatives = {"num": 2, "same_document": 2, "sampling": "rotate"}
    opened = open_groups(config(str(colpali), negatives=negatives)).train
    ids = [[document.id for document in opened.sample(0, epoch=epoch).documents[1:]] for epoch in range(3)]
    assert len({*ids[0], *ids[1]}) == 4 and ids == [
        [document.id for document in opened.sample(0, epoch=epoch).documents[1:]] for epoch in range(3)
    ]


def test_a_dev_group_holds_the_whole_document(colpali, config):
    opened = open_groups(config(str(colpali), negatives={"num": 7, "same_document": 1}))
    group = opened.train.full(0)
    name = group.query.split()[0]
    assert [name in document.id for document in group.documents] == [True] * 6 + [False] * 2
    assert sum(group.labels) == 1


def test_a_page_that_answers_the_query_too_is_no_negative(folder, config):
    rows = [
        {"query": "same?", "image": "1.png", "doc_id": "d"},
        {"query": "same?", "image": "2.png", "doc_id": "d"},
        {"query": "other?", "image": "3.png", "doc_id": "d"},
    ]
    root = folder(**{"a.jsonl": rows, "1.png": page(1), "2.png": page(2), "3.png": page(3)})
    groups = groups_of(str(root / "a.jsonl"), config, negatives={"num": 1, "same_document": 1})
    same = next(group for group in groups if group.query == "same?")
    assert same.documents[1].image == str(root / "3.png")
    assert len(groups) == 2, "one query, two pages"


def test_labels(folder, config):
    rows = [{"query": "q?", "image": f"{n}.png", "label": n % 2, "text": f"t{n}"} for n in range(3)]
    root = folder(**{"a.jsonl": rows, **{f"{n}.png": page(n) for n in range(3)}})
    [group] = groups_of(str(root / "a.jsonl"), config, negatives={"num": 2})
    assert [document.text for document in group.documents] == ["t1", "t0", "t2"]


def test_three_tables(tmp_path, config):
    """As vidore/vidore_v3_* lie on the hub: ids are numbers, documents have a field of their own."""
    for name, columns in {
        "queries": {"query_id": [7], "query": ["which?"]},
        "corpus": {
            "corpus_id": [1, 2, 3],
            "image": [{"bytes": page(n)} for n in range(3)],
            "doc_id": ["a", "a", "b"],
            "markdown": ["one", "two", "three"],
        },
        "qrels": {"query_id": [7], "corpus_id": [2], "score": [2]},
    }.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        parquet.write_table(pyarrow.table(columns), tmp_path / "set" / name / "test-00000-of-00001.parquet")
    source = {"path": str(tmp_path / "set"), "split": "test"}
    [group] = groups_of(source, config, negatives={"num": 1, "same_document": 1})
    assert [document.text for document in group.documents] == ["two", "one"] and group.labels == (2, 0)


def test_pages_of_unknown_documents_are_reported(folder, config):
    rows = [
        {"query": "q", "positives": [{"image": "1.png", "report": "r"}], "negatives": ["m"]},
        {"query": "p", "positives": [{"image": "2.png"}], "negatives": ["n"]},
        {"query": "text", "positives": ["p"], "negatives": ["n"]},
    ]
    root = folder(**{"a.jsonl": rows, "1.png": page(1), "2.png": page(2)})
    negatives = {"num": 1, "same_document": 1}

    def problems(source):
        checked = check_data(config(source, negatives=negatives))
        return [f"{p.kind} {p.line}: {p.message}" for p in checked.problems.examples]

    path = str(root / "a.jsonl")
    unknown = "nothing says which document"
    assert [p.split(" of this")[0] for p in problems({"path": path, "document_field": "report"})] == [
        f"page of an unknown document 2: {unknown} the page"
    ]
    [problem] = problems(path)
    print(problem)
    assert problem.startswith("no document of pages None: negatives.same_document: nothing says which document")
    with pytest.raises(DataError, match="document_field"):
        open_groups(config(path, negatives=negatives))
    assert problems({"path": str(folder(**{"b.jsonl": rows[2:]}) / "b.jsonl")})


def test_when_too_few_is_an_error_the_document_counts(colpali, config):
    def problems(num, same):
        negatives = {"num": num, "same_document": same, "when_too_few": "error"}
        return [p.message for p in check_data(config(str(colpali), negatives=negatives)).problems.examples]

    assert problems(5, 5) == []
    assert problems(6, 6)[0] == "0 negatives, 1 are wanted"
    assert problems(3, 1)[0] == "0 negatives, 2 are wanted"


def test_a_text_mode_knows_its_document_too(folder, config):
    rows = [{"query": f"q{n}?", "image": f"{n}.png", "text": f"t{n}", "doc_id": n // 2} for n in range(4)]
    root = folder(**{"a.jsonl": rows, **{f"{n}.png": page(n) for n in range(4)}})
    source = {"path": str(root / "a.jsonl"), "modality": "text"}
    for group in groups_of(source, config, negatives={"num": 1, "same_document": 1}):
        number = int(group.query[1])
        assert [document.text for document in group.documents] == [f"t{number}", f"t{number ^ 1}"]
        assert group.documents[0].image is None


def test_what_is_no_table_of_pages(folder, config):
    root = folder(**{"set__notes.md": "nothing here"})
    with pytest.raises(DataError, match="neither a BEIR folder"):
        check_data(config(str(root / "set")))
    with pytest.raises(DataError, match="no table of pages"):
        check_data(config({"path": str(root / "set"), "format": "pages"}))
