"""unlatch.toml -> typed settings, with every mistake reported at once."""

from collections.abc import Mapping
from typing import NamedTuple

from unlatch.settings import NotifierSettings, Person, Settings, Tcp, Unix

__all__ = ["Loaded", "Mistake", "NotifierSettings", "Person", "Settings", "Tcp", "Unix", "load"]


class Mistake(NamedTuple):
    """One thing wrong with the file, printable with ``str()``. ``line`` 0 is the file as a whole.

    ``fatal`` mistakes keep a broker from starting; the others disable one notifier, or refuse by broken rules.
    """

    file: str
    line: int
    key: str
    text: str
    fatal: bool = True
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class Loaded(NamedTuple):
    """The settings, what is wrong with them, and the file they come from ("" when there is none)."""

    settings: Settings
    mistakes: tuple[Mistake, ...]
    path: str


def load(path: str | None, environ: Mapping[str, str], uid: int) -> Loaded:
    """Read the configuration: ``path``, else the first file of the search that exists, else the defaults."""
    return Loaded(Settings(), (), "")
