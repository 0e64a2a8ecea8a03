"""Real programs: a test that needs one skips without it, and fails without it under CI=true."""

import os
import shutil

import pytest

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # often missing from the PATH of people and services


def real(program: str) -> str:
    """The path of a program that this test cannot do without."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")
    if path is None:
        absent(f"{program} is not installed; tools/setup test installs it")
    return str(path)


def absent(reason: str) -> None:
    """End this test because the machine lacks something: a skip for a developer, a failure for CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must not skip: {reason}")
    pytest.skip(reason)
