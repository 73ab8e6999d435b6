import numpy as np
import pytest
from PIL import Image

from crossrank.encoding.images import ImageSource
from crossrank.errors import DataError, InputError, NumericalError
from crossrank.retrieval import dense
from crossrank.retrieval.dense import Dense
from crossrank.types import Document


class LengthEmbedder:
    """Two numbers of a text, made by hand: its length and how often it has an `a`."""

    name, fingerprint, open_image = "lengths", "f1", None

    def __init__(self):
        self.num_embedded = 0

    def embed_queries(self, texts):
        return np.array([[1.0, 10.0 * text.count("a")] for text in texts], np.float32)

    def embed_documents(self, texts, images):
        assert len(images) == len(texts) and not any(images)
        self.num_embedded += len(texts)
        return np.array([[len(text), text.count("a")] for text in texts], np.float32)


def documents(*texts):
    return [Document(text, id=f"d{i}") for i, text in enumerate(texts)]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(dense, "BLOCK_DOCUMENTS", 3)
    monkeypatch.setattr(dense, "BLOCK_QUERIES", 2)
    monkeypatch.setattr(dense, "_STEP", 2)


def test_scores_are_dot_products_and_ties_keep_the_order_of_the_corpus(tmp_path, small_blocks):
    retriever = Dense(LengthEmbedder(), cache=tmp_path)
    retriever.index(iter(documents("bb", "a", "bbb", "ab", "bb", "aa", "b", "bbb")))
    queries = {"long": "x", "with a": "a", "again": "y"}
    found = {
        query_id: [(c.document_id, c.score) for c in hits] for query_id, hits in retriever.search(queries, depth=4)
    }
    assert found == {
        "long": [("d2", 3), ("d7", 3), ("d0", 2), ("d3", 2)],
        "with a": [("d5", 22), ("d3", 12), ("d1", 11), ("d2", 3)],
        "again": [("d2", 3), ("d7", 3), ("d0", 2), ("d3", 2)],
    }
    assert retriever.name == "dense:lengths"


def test_what_is_no_text_is_named_before_anything_is_embedded(tmp_path):
    """Half of a surrogate pair: a tokenizer would end in a TypeError that names nothing."""
    embedder = LengthEmbedder()
    retriever = Dense(embedder, cache=tmp_path)
    with pytest.raises(InputError, match=r"document d1 is not valid Unicode \(a lone surrogate\): 'a\\ud800b'"):
        retriever.index(documents("good", "a\ud800b"))
    assert embedder.num_embedded == 0 and not list(tmp_path.iterdir())
    retriever.index(documents("good"))
    with pytest.raises(InputError, match="query q is not valid Unicode"):
        retriever.search({"q": "\udfff"}, depth=1)


def test_blocks_give_what_one_product_gives(tmp_path, small_blocks):
    rng = np.random.default_rng(0)
    table = {f"t{i}": rng.normal(size=8).astype(np.float32) for i in range(20)}

    class Random(LengthEmbedder):
        def embed_queries(self, texts):
            return np.stack([table[text] for text in texts])

        def embed_documents(self, texts, images):
            return self.embed_queries(texts)

    retriever = Dense(Random(), cache=tmp_path)
    retriever.index(documents(*table))
    everything = np.stack(list(table.values()))
    expected = np.argsort(-(everything @ everything.T), axis=1, kind="stable")[:, :7]
    for row, (_, hits) in enumerate(retriever.search({text: text for text in table}, depth=7)):
        assert [int(c.document_id[1:]) for c in hits] == expected[row].tolist()


def test_what_is_on_disk_is_not_embedded_again(tmp_path, small_blocks):
    corpus = documents("a", "bb", "ccc", "dddd")
    first = LengthEmbedder()
    Dense(first, cache=tmp_path).index(corpus)
    assert first.num_embedded == 4
    second, seen = LengthEmbedder(), []
    again = Dense(second, cache=tmp_path)
    again.index([*corpus[:3], Document("new", id="n")], on_progress=seen.append)
    assert (second.num_embedded, sum(seen)) == (1, 4)
    other = LengthEmbedder()
    other.fingerprint = "f2"
    Dense(other, cache=tmp_path).index(corpus)
    assert other.num_embedded == 4


def test_an_interrupted_index_goes_on_and_leaves_no_half_file(tmp_path, small_blocks):
    class Interrupted(LengthEmbedder):
        def embed_documents(self, texts, images):
            if "stop" in texts:
                raise KeyboardInterrupt
            return super().embed_documents(texts, images)

    corpus = documents("a", "bb", "ccc", "dd", "stop", "e")
    with pytest.raises(KeyboardInterrupt):
        Dense(Interrupted(), cache=tmp_path).index(corpus)
    assert len(list(tmp_path.rglob("*"))) == 2, "one folder, one finished file"
    embedder = LengthEmbedder()
    Dense(embedder, cache=tmp_path).index(corpus)
    assert embedder.num_embedded == 3


def test_a_title_stands_before_the_text(tmp_path):
    retriever = Dense(LengthEmbedder(), cache=tmp_path)
    retriever.index([Document("bb", title="aaa", id="d")])
    ((_, (hit,)),) = retriever.search({"q": ""}, depth=1)
    assert hit.score == len("aaa bb")


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_an_error(tmp_path, small_blocks, broken):
    class Broken(LengthEmbedder):
        def embed_documents(self, texts, images):
            return np.array([[broken, 0] if text == "bad" else [1, 1] for text in texts], np.float32)

    with pytest.raises(NumericalError, match="document 5"):
        Dense(Broken(), cache=tmp_path).index(documents("good", "good", "good", "good", "bad"))
    assert len(list(tmp_path.rglob("*.npy"))) == 1, "the first block"


def test_an_empty_corpus_finds_nothing_and_no_index_is_an_error(tmp_path):
    retriever = Dense(LengthEmbedder(), cache=tmp_path)
    with pytest.raises(InputError, match="index"):
        retriever.search({"q": "a"}, depth=1)
    retriever.index([])
    assert list(retriever.search({"q": "a"}, depth=3)) == [("q", ())]


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert dense.cache_folder() == tmp_path / "crossrank" / "embeddings"


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:90])])
def test_a_damaged_file_is_named(tmp_path, damage):
    retriever = Dense(LengthEmbedder(), cache=tmp_path)
    retriever.index(documents("a", "bb"))
    (path,) = tmp_path.rglob("*.npy")
    damage(path)
    with pytest.raises(DataError, match=rf"{path.name}.*delete the file"):
        list(retriever.search({"q": "a"}, depth=1))


class BrightnessEmbedder:
    """A page is how bright it is, and how long its text."""

    name, fingerprint = "brightness", "b1"

    def __init__(self):
        self.num_embedded = 0

    def open_image(self, document):
        return ImageSource(document.image, where=str(document.id))

    def embed_queries(self, texts):
        return np.array([[text.count("bright"), text.count("long")] for text in texts], np.float32)

    def embed_documents(self, texts, images):
        self.num_embedded += len(texts)
        light = [0 if image is None else np.asarray(image.load()).mean() for image in images]
        return np.array([[mean, len(text)] for mean, text in zip(light, texts, strict=True)], np.float32)


def test_pages_are_found_by_image_and_text_and_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "BLOCK_PAGES", 2)
    for name, grey in (("dark", 10), ("bright", 250), ("middle", 128)):
        Image.new("L", (8, 8), grey).save(tmp_path / f"{name}.png")
    corpus = [
        Document("some text", id="dark", image=tmp_path / "dark.png"),
        Document(id="bright", image=tmp_path / "bright.png"),
        Document(id="middle", image=tmp_path / "middle.png"),
        Document("a text without any image", id="text"),
    ]
    embedder = BrightnessEmbedder()
    retriever = Dense(embedder, cache=tmp_path / "cache")
    retriever.index(corpus)
    found = dict(retriever.search({"q1": "bright", "q2": "long"}, depth=2))
    assert [hit.document_id for hit in found["q1"]] == ["bright", "middle"]
    assert [hit.document_id for hit in found["q2"]] == ["text", "dark"]
    retriever.index(corpus)
    assert embedder.num_embedded == 4, "all of it is on disk"
    Image.new("L", (8, 8), 0).save(tmp_path / "bright.png")
    retriever.index(corpus)
    assert embedder.num_embedded == 6, "the block of the changed image alone"


def test_an_image_alone_is_refused_where_text_is_read(tmp_path):
    embedder = LengthEmbedder()
    retriever = Dense(embedder, cache=tmp_path)
    retriever.index([Document("its text is read", id="both", image="missing.png"), Document("", id="empty")])
    with pytest.raises(InputError, match=r"document scan: an image without a text.*llama-nemotron-embed-vl"):
        retriever.index([Document(id="scan", image="scan.png")])
