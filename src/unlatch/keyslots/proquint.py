"""Words that can be read over the phone: proquints, 16 bits each (D. S. Wilkerson, arXiv:0901.4016). Pure.

Consonant, vowel, consonant, vowel, consonant; each consonant stands for four bits and each vowel for two. Six of them
hold 96 bits, which no list of words that a person would want to carry holds in six.
"""

_CONSONANTS = "bdfghjklmnprstvz"
_VOWELS = "aiou"


def words(data: bytes) -> str:
    """``data`` (an even number of bytes) as words with single blanks between them."""
    return " ".join(_word(int.from_bytes(data[place : place + 2])) for place in range(0, len(data), 2))


def normal(typed: bytes) -> bytes:
    """What a person typed, with lower-case letters and single blanks; hyphens and line breaks count as blanks."""
    return b" ".join(typed.lower().replace(b"-", b" ").split())


def _word(value: int) -> str:
    letters = []
    for alphabet, bits, shift in ((_CONSONANTS, 15, 12), (_VOWELS, 3, 10), (_CONSONANTS, 15, 6), (_VOWELS, 3, 4)):
        letters.append(alphabet[value >> shift & bits])
    return "".join((*letters, _CONSONANTS[value & 15]))
