"""Pages that need nothing beside themselves: Markdown, and HTML with its style and plots inside."""

from __future__ import annotations

import html
from collections.abc import Sequence

from crossrank.evaluation.tables import Table

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
td.text, th.text { text-align: left; }
td.text { white-space: normal; }
.note { color: #777; max-width: 60rem; }
svg { background: #fff; max-width: 100%; height: auto; }
.won { color: #009e73; } .lost { color: #d55e00; }
.relevant { background: #009e7333; }
details { margin: .6rem 0; } summary { cursor: pointer; }
"""


def html_page(title: str, sections: Sequence[str]) -> str:
    """Return a whole page; the sections are HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def html_table(table: Table) -> str:
    """Return a table with its title and its note."""
    kinds = ["" if table.is_numeric(i) else ' class="text"' for i in range(len(table.columns))]
    head = "".join(f"<th{kind}>{html.escape(column)}</th>" for kind, column in zip(kinds, table.columns, strict=True))
    rows = (
        "".join(f"<td{kind}>{html.escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in table.rows
    )
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    note = f'<p class="note">{html.escape(table.note).replace(chr(10), "<br>")}</p>' if table.note else ""
    return (
        f"<h2>{html.escape(table.title)}</h2>\n"
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>{note}'
    )


def html_plot(title: str, svg: str) -> str:
    """Return a plot under its title."""
    return f"<h2>{html.escape(title)}</h2>\n{svg}"


def markdown_table(table: Table) -> str:
    """Return a table with its title and its note."""
    lines = [
        f"## {table.title}",
        "",
        "| " + " | ".join(map(_markdown, table.columns)) + " |",
        "|" + "|".join(" ---: " if table.is_numeric(i) else " --- " for i in range(len(table.columns))) + "|",
        *("| " + " | ".join(map(_markdown, row)) + " |" for row in table.rows),
    ]
    return "\n".join(lines + (["", table.note.replace("\n", "\n\n")] if table.note else [])) + "\n"


def _markdown(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
