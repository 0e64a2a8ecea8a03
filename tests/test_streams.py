"""Commands that are started without standard input, output or error: nothing goes where it was not meant to go."""

import sys

import pytest
from house import UNLATCH, House
from real_gnupg import finish

ASKPASS = UNLATCH.with_name("unlatch-askpass")
SECRET = b"correct horse"


@pytest.mark.parametrize("closed", [">&-", "<&- >&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("program", [f"{ASKPASS} 'Password:'", f"{UNLATCH} get restic"])
def test_without_standard_output_nobody_is_given_the_secret(house: House, program: str, closed: str) -> None:
    """The answer is written to no file that took the number of standard output; that it is lost is an error."""
    running = house.start("sh", "-c", f"exec {program} {closed}")
    house.open(house.phone.ring()["link"]).unlock(SECRET)
    code, out, err = finish(running)
    assert (code, out) == (1, b"")
    assert "unforeseen" not in err


@pytest.mark.parametrize("program", [f"{ASKPASS} 'Password:'", f"{UNLATCH} get restic"])
def test_without_standard_error_only_the_answer_is_printed(house: House, program: str) -> None:
    """What people are told does not go to standard output instead, where the caller would take it for the secret."""
    running = house.start("sh", "-c", f"exec {program} 2>&-")
    house.open(house.phone.ring()["link"]).unlock(SECRET)
    code, out, _ = finish(running)
    assert (code, out.rstrip(b"\n")) == (0, SECRET)


@pytest.mark.parametrize("words", ["get --slot x restic", "card check --nonsense", "status extra"])
def test_an_error_is_not_printed_as_a_result(house: House, words: str) -> None:
    """An error without a standard error is an exit code and nothing else."""
    running = house.start("sh", "-c", f"exec {UNLATCH} {words} 2>&-")
    code, out, _ = finish(running)
    assert code in (1, 2)
    assert out == b""


def test_a_program_is_started_with_all_three(house: House) -> None:
    """A pipe with a secret does not become a program's standard input."""
    look = "import os, sys; print(os.readlink('/proc/self/fd/0'), os.environ['NUMBER'])"
    line = f'exec {UNLATCH} run --fd NUMBER=restic -- {sys.executable} -c "{look}" <&-'
    running = house.start("sh", "-c", line)
    house.open(house.phone.ring()["link"]).unlock(SECRET)
    code, out, err = finish(running)
    assert code == 0, err
    place, number = out.split()
    assert place == b"/dev/null"
    assert int(number) > 2
