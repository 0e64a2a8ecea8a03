"""The response: ten characters that only who can decrypt the challenge can know. Pure but for the random source."""

from collections.abc import Callable

from unlatch.secret import Secret

ALPHABET = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
LENGTH = 10  # 62^10 is 8.4e17: 59.5 bits for a single attempt within minutes
_FAIR = 256 - 256 % len(ALPHABET)  # bytes from here on would make the first characters more likely


def draw(random: Callable[[int], bytes]) -> Secret:
    """Ten characters of :data:`ALPHABET`, each equally likely; ``random(n)`` gives n random bytes."""
    drawn = bytearray()
    while len(drawn) < LENGTH:
        drawn += bytes(ALPHABET[byte % len(ALPHABET)] for byte in random(16) if byte < _FAIR)
    return Secret(drawn[:LENGTH])


def matches(response: Secret, typed: bytes) -> bool:
    """Whether this is the response, in constant time. Blanks around it, as a copied line has them, do not count."""
    return response == Secret(typed.strip(b" \t\r\n"))
