"""The same lines to pinentry-curses and to ours: the same replies, but for what the transcripts say differs."""

from pathlib import Path

import pytest
import transcript
from real import real

TRANSCRIPTS = sorted(transcript.FOLDER.glob("*.txt"))


@pytest.mark.parametrize("program", ["curses", "unlatch"])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_replies_as_recorded(path: Path, program: str) -> None:
    """Each line of a transcript gets the replies that stand below it, from the real pinentry and from ours."""
    real("pinentry-curses")
    for said, expected, given in transcript.record(path, program):
        assert len(given) == len(expected)
        assert all(map(transcript.matches, expected, given)), f"to {said!r}: {given} instead of {expected}"
