import pytest

from crossrank.errors import InputError
from crossrank.retrieval.terms import TermSplitter


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("english", "The cats are RUNNING in C", ["cat", "run", "c"]),
        ("en", "ﬁles: 3.5 GB", ["file", "3", "5", "gb"]),
        ("de", "Die Häuser der Städte", ["die", "haus", "der", "stadt"]),
        ("none", "The cats", ["the", "cats"]),
        ("ja", "東京都の川", ["東京", "京都", "都の", "の川"]),
        ("english", "the 東京 tower", ["tower", "東京"]),
        ("zh", "河", ["河"]),
        ("th", "ภาษาไทย", ["ภาษ", "าษา", "ษาไ", "าไท", "ไทย"]),
        ("ko", "한국어", ["한국", "국어"]),
        ("none", "हिन्दी में", ["हिन्दी", "में"]),
        ("english", "", []),
    ],
)
def test_terms(language, text, terms):
    assert TermSplitter(language).split(text) == terms


def test_an_unknown_language_is_an_error_that_lists_the_known_ones():
    with pytest.raises(InputError, match=r"'klingon' is not known.*arabic.*yiddish"):
        TermSplitter("klingon")
