"""A copy of the package as pip lays it out, that can be exchanged for another version while it is in use."""

import shutil
import sys
import sysconfig
from pathlib import Path

from house import PINENTRY

import unlatch

SOURCE = Path(unlatch.__file__).parent
ASKERS_ONLY = ("ask.py", "origin.py", "rules.py", "frontends/pinentry.py", "wire/assuan.py", "wire/pinentry.py")


class Installation:
    """``bin`` and ``lib`` under one directory: our package copied, what it depends on linked."""

    def __init__(self, root: Path) -> None:
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.pinentry = root / "bin" / "pinentry-unlatch"
        self._packages = root / "lib" / python / "site-packages"
        self._package = self._packages / "unlatch"
        self._packages.mkdir(parents=True)
        self.pinentry.parent.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if "unlatch" not in path.name and path.name != "__pycache__":
                (self._packages / path.name).symlink_to(path)
        shutil.copytree(SOURCE, self._package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(PINENTRY, self.pinentry)
        for name in ("python", "python3"):
            (self.pinentry.parent / name).symlink_to(Path(sys.executable).resolve())

    def exchange(self, version: str) -> None:
        """Put another version in its place, whose asker cannot be imported any more."""
        fresh = self._packages / "fresh"
        shutil.copytree(SOURCE, fresh, ignore=shutil.ignore_patterns("__pycache__"))
        (fresh / "__init__.py").write_text(f'__version__ = "{version}"\n')
        for name in ASKERS_ONLY:
            (fresh / name).write_text("raise SystemExit('imported after the upgrade')\n")
        shutil.rmtree(self._package)
        fresh.rename(self._package)
