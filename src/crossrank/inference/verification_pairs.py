"""Text pairs on which two forms of a checkpoint are compared: many scripts and lengths, related and not."""

from __future__ import annotations

from itertools import product

_QUERIES = (
    "Which planet is known as the Red Planet?",
    "how do I reset a forgotten password",
    "symptoms of iron deficiency",
    "Wie viele Einwohner hat Berlin?",
    "recette du pain de campagne",
    "二分探索とは何ですか",
    "ما هي عاصمة فرنسا؟",
    "python sort a list of dictionaries by a key",
)

_PASSAGES = (
    "Mars is the fourth planet from the Sun. Iron oxide on its surface gives it a reddish colour.",
    "Open the sign-in page, choose “I cannot sign in”, and follow the link that arrives by mail. It works once.",
    "Tiredness, pale skin, short breath and cold hands are common when the body has too little iron. A blood test "
    "tells how much is stored; meat, beans and dark leaves raise it slowly, tablets faster.",
    "Berlin hat rund 3,9 Millionen Einwohner und ist die größte Stadt Deutschlands.",
    "Mélangez la farine, l’eau, le sel et le levain, pétrissez dix minutes, laissez lever une nuit, puis cuisez.",
    "二分探索は、整列済みの配列を半分に分けながら目的の値を探す方法です。計算量は O(log n) です。",
    "باريس هي عاصمة فرنسا وأكبر مدنها، وتقع على نهر السين.",
    "Call sorted(rows, key=lambda row: row['name']); pass reverse=True for descending order. 🐍",
    "no",
    "",
)
_LONG = 12


def verification_pairs() -> list[tuple[str, str]]:
    """Return every query with every passage, and once with all passages in one long text."""
    long = " ".join(_PASSAGES * _LONG)
    return [*product(_QUERIES, _PASSAGES), *((query, long) for query in _QUERIES)]
