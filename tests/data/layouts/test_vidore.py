from crossrank.data.layouts import mteb
from crossrank.data.layouts.vidore import language_of_pages, read

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


def write_mteb_format(folder, write_table, languages):
    """As vidore/vidore_v3_hr_mteb_format: tables a language, with the judgements of all languages in each."""
    everything = [{"query-id": str(i), "corpus-id": "7", "score": 1 + i % 2} for i in range(3)]
    for place, language in enumerate(("english", "french", "german")):
        if language in languages:
            write_table(folder, f"{language}-corpus", "test", [{"id": "7", "image": {"bytes": PAGE, "path": None}}])
            write_table(folder, f"{language}-queries", "test", [{"id": str(place), "text": language.title()}])
            write_table(folder, f"{language}-qrels", "test", everything)
    return folder


def test_v3_in_the_format_of_mteb_is_one_set_of_all_languages(tmp_path, write_table):
    folder = write_mteb_format(tmp_path, write_table, ("english", "french", "german"))
    contents = read(folder, config=None, split="test", revision=None)
    assert contents.queries == {"0": "English", "1": "French", "2": "German"}
    assert contents.languages == {"0": "english", "1": "french", "2": "german"}
    assert contents.qrels == {"0": {"7": 1}, "1": {"7": 2}, "2": {"7": 1}}
    assert [page.image for page in contents.documents] == [PAGE]


def test_a_language_of_the_format_of_mteb_has_its_own_judgements_alone(tmp_path, write_table):
    folder = write_mteb_format(tmp_path, write_table, ("french",))
    contents = read(folder, config=None, split="test", revision=None)
    assert (contents.queries, contents.qrels) == ({"1": "French"}, {"1": {"7": 2}})
    contents = mteb.read(folder, config="french", split="test", revision=None)
    assert (contents.queries, contents.qrels) == ({"1": "French"}, {"1": {"7": 2}})


def test_the_language_of_the_pages_is_known_by_the_name():
    assert language_of_pages("vidore/vidore_v3_energy_mteb_format") == "fr"
    assert language_of_pages("mteb/syntheticDocQA_energy_test_beir") == "en"
