"""base64url: one spelling for each byte string, and one error for everything else."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unlatch import base64url
from unlatch.errors import Malformed


@given(st.binary(max_size=100))
def test_bytes_survive_and_agree_with_the_standard_library(data: bytes) -> None:
    """What is encoded decodes to itself, spelled as RFC 4648 section 5 says, without padding."""
    text = base64url.encode(data)
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert base64url.decode(text, "field") == data


@given(st.text(alphabet="AQgw-_/+= \nzé9", max_size=9))
@example("")
@example("AB")  # non-zero trailing bits: a second spelling of b"\x00"
def test_every_text_has_one_meaning_or_none(text: str) -> None:
    """A text decodes only if it is exactly what its bytes encode to; otherwise it is Malformed and not quoted."""
    try:
        data = base64url.decode(text, "field")
    except Malformed as error:
        assert str(error) == "malformed field"  # noqa: PT017 (either outcome is right; each has its own duty)
    else:
        assert base64url.encode(data) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("A", id="one character over"),
        pytest.param("AB", id="trailing bits"),
        pytest.param("AAF", id="trailing bits of three"),
        pytest.param("AA==", id="padding"),
        pytest.param("AAAA\n", id="newline at the end"),
        pytest.param(" AAAA", id="blank before"),
        pytest.param("AA AA", id="blank within"),
        pytest.param("ab+/", id="the other alphabet"),
        pytest.param("AAA\x00", id="nul"),
        pytest.param("ÄAAA", id="not ascii"),
        pytest.param("\uff21AAA", id="full-width A"),
        pytest.param("\ud800AAA", id="lone surrogate"),
        pytest.param(b"AAAA", id="bytes"),
        pytest.param(7, id="number"),
        pytest.param(None, id="null"),
        pytest.param(["AAAA"], id="list"),
    ],
)
def test_other_spellings_are_malformed(text: object) -> None:
    """Padding, white space, foreign characters, surplus bits and what is no text at all are refused."""
    with pytest.raises(Malformed):
        base64url.decode(text, "field")


def test_a_wrong_size_is_malformed() -> None:
    """A field of fixed size takes exactly that many bytes."""
    assert base64url.decode("AAAA", "field", 3) == bytes(3)
    with pytest.raises(Malformed):
        base64url.decode("AAAA", "field", 4)
