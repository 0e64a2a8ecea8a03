"""The match words: 256 of them, and no two that a tired person could take for each other."""

import itertools

from unlatch.words import WORDS, match_words


def _distance(one: str, other: str) -> int:
    """How many letters must be changed, added or dropped (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        above, row = row, [i]
        for j, also in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != also)))
    return row[-1]


def test_there_are_as_many_words_as_bytes() -> None:
    """256 words, so that each random byte is one word and none is likelier than another."""
    assert len(WORDS) == len(set(WORDS)) == 256
    assert list(WORDS) == sorted(WORDS)


def test_words_are_short_and_plain() -> None:
    """Four to eight lower-case letters: they fit a phone's notification and every keyboard and voice."""
    assert [word for word in WORDS if not (word.isascii() and word.isalpha() and word.islower())] == []
    assert [word for word in WORDS if not 4 <= len(word) <= 8] == []


def test_no_two_words_look_alike() -> None:
    """Any two words differ in three letters or more, and already in their first four."""
    pairs = itertools.combinations(WORDS, 2)
    assert [pair for pair in pairs if pair[0][:4] == pair[1][:4] or _distance(*pair) < 3] == []


def test_every_word_can_be_drawn_in_both_places() -> None:
    """Two bytes are drawn, one for each word."""
    drawn = [match_words(lambda size, n=n: bytes([n, 255 - n][:size])) for n in range(256)]  # type: ignore[misc]
    assert [first for first, _ in drawn] == list(WORDS)
    assert [second for _, second in drawn] == list(reversed(WORDS))
