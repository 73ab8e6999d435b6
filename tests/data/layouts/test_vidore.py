from crossrank.data.layouts.vidore import read

PAGE = b"\x89PNG\r\n\x1a\n page"


def test_v1_and_v2_spell_with_hyphens_and_count_in_numbers(tmp_path, write_table):
    write_table(tmp_path, "corpus", "test", [{"corpus-id": 7, "image": {"bytes": PAGE, "path": None}}])
    queries = [
        {"query-id": 1, "query": "How much?", "language": "english"},
        {"query-id": 2, "query": "Combien ?", "language": "french"},
    ]
    write_table(tmp_path, "queries", "test", queries)
    write_table(tmp_path, "qrels", "test", [{"query-id": i, "corpus-id": 7, "score": 1.0} for i in (1, 2)])
    contents = read(tmp_path, config=None, split="test", revision=None)
    assert contents.queries == {"1": "How much?", "2": "Combien ?"}
    assert contents.languages == {"1": "english", "2": "french"}
    assert contents.qrels == {"1": {"7": 1}, "2": {"7": 1}}
    (page,) = contents.documents
    assert (page.id, page.text, page.image) == ("7", "", PAGE)


def test_v3_spells_with_underscores_and_has_markdown(tmp_path, write_table):
    corpus = {"corpus_id": 7, "image": {"bytes": PAGE, "path": "p.png"}, "doc_id": "report", "markdown": "# Sales"}
    write_table(tmp_path, "corpus", "test", [corpus | {"page_number_in_doc": 3}])
    query = {"query_id": 1, "query": "Sales?", "language": "english", "query_types": ["open"], "answer": "12"}
    write_table(tmp_path, "queries", "test", [query])
    box = {"annotator": 1, "x1": 0, "x2": 1, "y1": 0, "y2": 1}
    write_table(tmp_path, "qrels", "test", [{"query_id": 1, "corpus_id": 7, "score": 2, "bounding_boxes": [box]}])
    write_table(tmp_path, "documents_metadata", "test", [{"doc_id": "report", "url": "x"}])
    contents = read(tmp_path, config=None, split="test", revision=None)
    assert contents.qrels == {"1": {"7": 2}}
    assert contents.languages == {"1": "english"}
    (page,) = contents.documents
    assert (page.id, page.text, page.image) == ("7", "# Sales", PAGE)
