"""The response: uniform over its alphabet at every place, never twice, compared whole."""

import os
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from unlatch.pam import response
from unlatch.pam.response import ALPHABET, LENGTH
from unlatch.secret import Secret

MANY = 1_000_000
# A right generator fails one run of so many.
ODDS = 1e-9


def chi_square(counts: Iterable[int], expected: float) -> float:
    """Pearson's statistic of counts that should all be the same."""
    return sum((count - expected) ** 2 / expected for count in counts)


def limit(freedom: int) -> float:
    """What the statistic exceeds in one of 1 / ODDS runs (Wilson and Hilferty's approximation; z of 1e-9 is 5.998)."""
    part = 2 / (9 * freedom)
    return float(freedom * (1 - part + 5.998 * part**0.5) ** 3)


def statistics(drawn: list[bytes]) -> tuple[float, list[float]]:
    """Chi-square over the alphabet: for all characters together, and for each place."""
    places = [Counter(place) for place in zip(*drawn, strict=True)]
    total = sum(places, Counter[int]())
    every = chi_square((total[letter] for letter in ALPHABET), len(drawn) * LENGTH / len(ALPHABET))
    each = [chi_square((place[letter] for letter in ALPHABET), len(drawn) / len(ALPHABET)) for place in places]
    return every, each


def buffered(size: int = 1 << 20) -> Callable[[int], bytes]:
    """The system's random source, asked for a MiB at a time: a million questions take seconds."""
    kept = bytearray()

    def random(count: int) -> bytes:
        if len(kept) < count:
            kept.extend(os.urandom(size))
        taken = bytes(kept[-count:])
        del kept[-count:]
        return taken

    return random


def test_a_million_responses(record_property: Callable[[str, object], None]) -> None:
    """All 62 characters are equally likely at each of the ten places, and none of the million comes twice."""
    random = buffered()
    drawn: list[bytes] = []
    for _ in range(MANY):
        one = response.draw(random)
        drawn.append(bytes(one.reveal()))
    assert {len(each) for each in drawn} == {LENGTH}
    assert set(b"".join(drawn)) == set(ALPHABET)
    every, each = statistics(drawn)
    degrees = len(ALPHABET) - 1
    told = f"chi-square of {MANY} responses: {every:.1f} over all, {min(each):.1f} to {max(each):.1f} by place"
    print(f"{told}; {degrees} degrees of freedom, limit {limit(degrees):.1f}; {MANY - len(set(drawn))} repeats")
    record_property("chi_square", every)
    assert every < limit(degrees)
    assert max(each) < limit(degrees)
    assert len(set(drawn)) == MANY


def test_the_statistics_would_see_a_bias() -> None:
    """Without the rejected bytes, eight characters come five times where the others come four times."""
    random = os.urandom(200_000 * LENGTH)
    letters = bytes(ALPHABET[byte % len(ALPHABET)] for byte in random)
    every, each = statistics([letters[at : at + LENGTH] for at in range(0, len(letters), LENGTH)])
    assert every > limit(len(ALPHABET) - 1)
    assert min(each) > limit(len(ALPHABET) - 1)


def test_bytes_that_would_favour_somebody_are_thrown_away() -> None:
    """And further ones drawn, however many it takes."""
    given = [b"\xff" * 16, bytes([248]) * 16, bytes([247] * 3) + b"\xff" * 13, bytes(range(16))]
    one = response.draw(lambda count: given.pop(0))
    letter = ALPHABET[247 % 62]
    assert bytes(one.reveal()) == bytes([letter] * 3) + ALPHABET[:7]
    assert given == []


@pytest.mark.parametrize("typed", [b"abcdefghij", b" abcdefghij\r\n", b"\tabcdefghij\n"])
def test_the_response_is_taken_as_copied(typed: bytes) -> None:
    """With the blanks that a terminal or a clipboard adds around it."""
    assert response.matches(Secret(b"abcdefghij"), typed)


@pytest.mark.parametrize(
    "typed",
    [b"", b" ", b"abcdefghi", b"abcdefghijk", b"ABCDEFGHIJ", b"abcde fghij", b"abcdefghij\0", b"\xc2\xa0abcdefghij"],
)
def test_anything_else_is_wrong(typed: bytes) -> None:
    """Part of it, more than it, another case."""
    assert not response.matches(Secret(b"abcdefghij"), typed)
