"""Images in training data: what they are relative to, what is broken in them, and what is kept of them."""

import base64

import pytest
from tests.data.groups.pages import page

from crossrank.data.groups.build import check_data, open_store
from crossrank.encoding.images import check_image
from crossrank.errors import DataError

FINE = {"query_id": "ok", "query": "fine", "positives": [{"image": "pages/1.png"}], "negatives": ["n1"]}


def row(image, **more):
    return {"query": "q", "positives": [{"image": image}], "negatives": ["n"], **more}


def shown(path, config, **rest):
    checked = check_data(config(str(path), **rest), check_image=check_image)
    return checked.train[0], [f"{p.kind} {p.line}: {p.message}" for p in checked.problems.examples]


@pytest.fixture
def files(folder):
    """Two pages, a JPEG, and what is wrong with images."""
    return folder(
        **{
            "pages__1.png": page(1), "pages__2.png": page(2), "pages__copy.png": page(1),
            "pages__3.jpg": page(3, kind="JPEG"), "pages__cut.jpg": page(4, kind="JPEG")[:-200],
            "pages__cut.png": page(5)[:-200], "pages__none.png": b"", "pages__text.png": "no image",
        }
    )  # fmt: skip


def test_paths_are_relative_to_the_data(files, folder, config, monkeypatch):
    rows = [FINE, row("pages/3.jpg"), row(str(files / "pages/2.png"), query="absolute")]
    path = folder(**{"a.jsonl": rows}) / "a.jsonl"
    monkeypatch.chdir(files.parent)
    store, problems = shown(path, config)
    images = [store.document(int(store.group(i).rows[0])).image for i in range(3)]
    assert problems == [] and images == [str(files / "pages" / name) for name in ("1.png", "3.jpg", "2.png")]


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("pages/missing.png", "no image file"),
        ("pages/cut.jpg", "damaged or cut short"),
        ("pages/cut.png", "damaged or cut short"),
        ("pages/none.png", "empty (0 bytes)"),
        ("pages/text.png", "not an image of a kind that is read"),
        ("https://example.com/1.png", "is an address, and nothing is fetched"),
        ("data:image/png;base64,iVBORw0KGgo=", "the data URL data:image/png"),
    ],
)
def test_an_image_that_cannot_be_read_is_reported_with_its_line(files, folder, config, image, problem):
    path = folder(**{"a.jsonl": [FINE, row(image), row(image, query="again")]}) / "a.jsonl"
    store, problems = shown(path, config)
    print(*problems, sep="\n")
    assert len(store) == 1 and [p.split(":")[0] for p in problems] == ["unreadable image 2", "unreadable image 3"]
    assert all(problem in found for found in problems)


def test_an_image_that_appears_or_breaks_is_noticed(files, folder, config):
    path = folder(**{"a.jsonl": [FINE, row("pages/late.png")]}) / "a.jsonl"
    assert len(shown(path, config)[1]) == 1
    (files / "pages/late.png").write_bytes(page(7))
    assert shown(path, config)[1] == []
    (files / "pages/1.png").write_bytes(page(1)[:-100])
    store, problems = shown(path, config)
    assert len(store) == 1 and problems[0].startswith("unreadable image 1")


def test_an_unchanged_source_is_not_read_again(files, folder, config, monkeypatch):
    path = folder(**{"a.jsonl": [FINE]}) / "a.jsonl"
    first, _ = shown(path, config)
    monkeypatch.setattr("crossrank.data.groups.build.read_source", None)
    assert shown(path, config)[0].folder == first.folder


def test_the_store_keeps_references(files, folder, config):
    """A page in three groups is one path each time, and its pixels are nowhere."""
    large = page(9, size=(600, 800))
    (files / "pages/large.png").write_bytes(large)
    path = folder(**{"a.jsonl": [row("pages/large.png", query=f"q{i}") for i in range(3)]}) / "a.jsonl"
    store, _ = shown(path, config)
    assert sum(file.stat().st_size for file in store.folder.iterdir()) < len(large) / 10


def test_copies_of_a_page_are_the_same_page(files, folder, config):
    rows = [FINE | {"negatives": [{"image": "pages/copy.png"}, {"image": "pages/2.png"}]}]
    _, problems = shown(folder(**{"a.jsonl": rows}) / "a.jsonl", config)
    assert problems == ["positive among the negatives 1: 1 document(s) are both a positive and a negative"]


def test_bytes_and_data_urls(files, folder, config, tmp_path):
    import pyarrow
    from pyarrow import parquet

    url = "data:image/png;base64," + base64.b64encode(page(1)).decode()
    store, problems = shown(folder(**{"a.jsonl": [row(url)]}) / "a.jsonl", config)
    assert problems == [] and store.document(0).image == url
    rows = {"query": ["q"], "positives": [[{"image": {"bytes": page(2), "path": "x.png"}}]], "negatives": [[]]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    store, problems = shown(tmp_path / "a.parquet", config)
    assert problems == [] and store.document(0).image == page(2)


@pytest.mark.parametrize(
    ("modality", "text", "has_image"),
    [(None, "words", True), ("image+text", "words", True), ("text", "words", False), ("image", "", True)],
)
def test_what_is_read_of_a_page(files, folder, config, modality, text, has_image):
    rows = [FINE | {"positives": [{"text": "words", "title": "t", "image": "pages/1.png"}]}]
    path = str(folder(**{"a.jsonl": rows}) / "a.jsonl")
    store = check_data(config({"path": path} | ({"modality": modality} if modality else {}))).train[0]
    document = store.document(0)
    assert (document.text, document.image is not None) == (text, has_image)
    assert (document.title is None) == (modality == "image")


def test_a_page_without_what_is_asked_for_is_empty(files, folder, config):
    path = str(folder(**{"a.jsonl": [FINE]}) / "a.jsonl")
    checked = check_data(config({"path": path, "modality": "text"}))
    assert [p.kind for p in checked.problems.examples if p.kind.is_error] == ["empty text", "no group"]


def test_a_beir_folder_with_images(files, folder, config):
    """As ../shared/data has them: an `image` beside or instead of the text, relative to the folder."""
    corpus = [
        {"_id": "a-p1", "title": "", "text": "words", "image": "pages/1.png"},
        {"_id": "a-p2", "title": "", "text": "", "image": "pages/2.png"},
        {"_id": "a-p3", "title": "", "image": "pages/gone.png"},
    ]
    root = folder(
        **{
            "corpus.jsonl": corpus,
            "queries.jsonl": [{"_id": "q", "text": "which?"}],
            "qrels__train.tsv": "query-id\tcorpus-id\tscore\nq\ta-p1\t1\nq\ta-p2\t0\n",
        },
    )
    store, problems = shown(root, config)
    documents = [store.document(int(row)) for row in store.group(0).rows]
    assert [(document.text, document.image) for document in documents] == [
        ("words", str(root / "pages/1.png")),
        ("", str(root / "pages/2.png")),
    ]
    assert len(problems) == 1 and problems[0].startswith("unreadable image 3: no image file")


def test_bad_images_stop_a_run_or_are_dropped(files, folder, config):
    from crossrank.data.groups.build import open_groups

    path = folder(**{"a.jsonl": [FINE, row("pages/cut.jpg")]}) / "a.jsonl"
    with pytest.raises(DataError) as error:
        open_groups(config(str(path)), check_image=check_image)
    print(error.value)
    assert f"{path}:2" in str(error.value) and "cut.jpg: damaged" in str(error.value)
    assert len(open_groups(config(str(path), on_bad_row="drop"), check_image=check_image).train) == 1


def test_images_of_a_corpus_id_file(files, folder, config):
    """`open_store` of AutoModel's ColPali layout, whose ids are the names of the images."""
    import json

    import pyarrow
    from pyarrow import parquet

    root = folder(
        **{
            "corpus__merlin_metadata.json": json.dumps({"class": "ColPaliDataset", "corpus_id": "c"}),
            "train.json": json.dumps(
                {
                    "corpus": [{"path": "corpus"}],
                    "data": [
                        {"question_id": "q", "question": "x", "corpus_id": "c", "pos_doc": ["r_p1"], "neg_doc": []}
                    ],
                }
            ),
        }
    )
    table = pyarrow.table({"image_filename": ["r_p1", "r_p2"], "image": [{"bytes": page(1)}, {"bytes": page(2)}]})
    parquet.write_table(table, root / "corpus/train.parquet")
    store = open_store(config(str(root / "train.json")).train[0], root / "cache")
    assert store.document(0).image == page(1) and len(set(store.pages.keys)) == 1 and not store.pages.is_empty
