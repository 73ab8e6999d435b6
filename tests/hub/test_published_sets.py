"""One small set of each layout as it lies on the hub: what the local copies in the other tests are modelled on."""

import pytest

from crossrank.data.published import PublishedSet, open_published, parse_published

pytestmark = pytest.mark.hub

NANO = PublishedSet("nanobeir", "sentence-transformers/NanoBEIR-en", "NanoSciFact")
SCIFACT = PublishedSet("mteb", "mteb/scifact", revision="d56462d0e63a25450459c4f213e49ffdb866f7f9")
TABFQUAD = PublishedSet(
    "vidore", "mteb/tabfquad_test_subsampled_beir", revision="24a4541c4c461f5ff4f4af4e97ec820715281a06"
)


@pytest.mark.parametrize(
    ("published", "queries", "documents"),
    [
        (NANO, 50, None),
        (SCIFACT, 300, 5183),
        (TABFQUAD, 280, 70),
        (*parse_published("mteb:mteb/MIRACLReranking:te", split="dev"), None, 8400),
        (*parse_published("mlqa:mteb/MLQARetrieval:zh.en"), 5135, 4546),
        (*parse_published("mldr:Shitao/MLDR:ko"), None, None),
        (*parse_published("techqa:PrimeQA/TechQA"), 160, None),
    ],
    ids=lambda value: value.title if isinstance(value, PublishedSet) else "",
)
def test_a_set_of_the_hub_is_read(published, queries, documents, tmp_path):
    with open_published(published, cache=tmp_path) as data:
        print(published.title, len(data.qrels), len(data.corpus))
        assert queries is None or len(data.qrels) == queries
        assert documents is None or len(data.corpus) == documents
        assert all(any(grades.values()) for grades in data.qrels.values())
        if published.layout == "vidore":
            assert data.modality == "image"
            assert next(iter(data.corpus)).image.read_bytes()
