import pytest

from crossrank.errors import DataError

ROWS = [
    {"query": "red?", "document": "Mars", "label": 2},
    {"query": "gas?", "document": "Jupiter", "label": 1},
    {"query": "red?", "document": "Venus", "label": 0},
    {"query": "gas?", "document": "Bread, baked", "label": 0},
    {"query": "none?", "document": "Pluto", "label": 0},
]
GROUPS = [("red?", [("Mars", 2), ("Venus", 0)]), ("gas?", [("Jupiter", 1), ("Bread, baked", 0)])]
LEFT_OUT = ["no positive 6: no document is relevant: the query is left out"]


def without_ids(result):
    groups, problems = result
    return [group[1:] for group in groups], problems


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t")])
def test_tables(folder, check, name, delimiter):
    lines = [delimiter.join(["query", "document", "label"])]
    for row in ROWS:
        lines.append(delimiter.join(f'"{value}"' for value in row.values()))
    assert without_ids(check(str(folder(**{name: "\n".join(lines)}) / name))) == (GROUPS, LEFT_OUT)


def test_json_lines_and_parquet(folder, check):
    import pyarrow
    from pyarrow import parquet

    root = folder(**{"a.jsonl": ROWS})
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), root / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        groups, problems = without_ids(check(str(root / name)))
        assert groups == GROUPS and problems[0].startswith("no positive 5")


def test_queries_are_told_apart_by_their_ids_and_teachers_are_kept(folder, check):
    rows = [
        {"qid": 1, "question": "same", "passage": "a", "relevance": True, "teacher_score": 4.5},
        {"qid": 2, "question": "same", "passage": "b", "relevance": True, "teacher_score": 3.5},
        {"qid": 1, "question": "same", "passage": "c", "relevance": False, "teacher_score": -1},
    ]
    groups, problems = check(str(folder(**{"a.jsonl": rows}) / "a.jsonl"))
    assert groups == [("1", "same", [("a", 4.5), ("c", -1)]), ("2", "same", [("b", 3.5)])]
    assert problems[0] == "repeated query 2: the same query as in another row"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("red?,x,high", "malformed row 3: the label must be a number, not 'high'"),
        ("red?,x,nan", "malformed row 3: the label must be a finite number"),
        ("red?,x", "malformed row 3: 2 fields where the header has 3"),
        ("red?,Mars,0", "positive among the negatives 2: 1 document"),
        ("red?,Mars,1", "repeated document 2: 1 document(s) come more than once"),
        ("red?,,0", "empty text 2: a document is empty"),
    ],
)
def test_a_bad_row_is_reported(folder, check, row, problem):
    _, problems = check(str(folder(**{"a.csv": f"query,document,label\nred?,Mars,1\n{row}\n"}) / "a.csv"))
    assert any(found.startswith(problem) for found in problems), problems


def test_a_missing_column_is_an_error_that_names_those_that_are_there(folder, check):
    path = folder(**{"a.csv": "query,document,labels\nq,d,1\n"}) / "a.csv"
    with pytest.raises(DataError, match=r"a\.csv:1: no column of the label \('label', .*there are 'query', 'document'"):
        check({"path": str(path), "format": "pairs"})
