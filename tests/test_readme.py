"""The README's two commands and its tree of files say what is there."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LISTED_WHOLE = ("benchmarks", "docs", "examples", "recipes", "src")


def fenced_blocks() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def listed_paths() -> set[PurePosixPath]:
    """The paths of the tree: two spaces a level, a folder ends with a slash, one line each."""
    tree = next(block for block in fenced_blocks() if block.startswith(".ci/"))
    paths, parents = set(), []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\S+)", line).groups()
        del parents[len(indent) // 2 :]
        path = PurePosixPath(*parents, name)
        paths.add(path)
        if name.endswith("/"):
            parents.append(name.rstrip("/"))
    return paths


def test_the_first_block_reranks_and_the_second_tests_each_in_a_new_venv():
    rerank, test = fenced_blocks()[:2]
    assert rerank.startswith("python3 -m venv .venv && ") and "crossrank rerank " in rerank
    assert test.startswith("python3 -m venv .venv && ") and test.rstrip().endswith("-m pytest -q")
    assert len(rerank.splitlines()) == len(test.splitlines()) == 1


def test_every_path_of_the_tree_exists():
    missing = [str(path) for path in listed_paths() if not (ROOT / path).exists()]
    assert missing == []


def test_every_source_file_has_a_line_or_lies_in_a_folder_that_has_one_for_all():
    listed = listed_paths()
    described = {path for path in listed if not any(path in other.parents for other in listed)}
    left_out = [
        str(path)
        for folder in LISTED_WHOLE
        for found in sorted((ROOT / folder).rglob("*"))
        if found.is_file() and found.suffix in {".py", ".md", ".yaml", ".html"} and found.name != "__init__.py"
        for path in [PurePosixPath(found.relative_to(ROOT).as_posix())]
        if path not in described and not any(parent in described for parent in path.parents)
    ]
    assert left_out == []
