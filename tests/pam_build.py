"""What tests compile of pam/: the module as people install it, or for checkers of memory, and its reader alone."""

import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from real import absent, real

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("pam_module", ROOT / "tools" / "pam_module.py")
assert _spec is not None
assert _spec.loader is not None
pam_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pam_module)

SANITIZED = (
    "-g", "-O1", "-fno-omit-frame-pointer", "-fPIC", "-shared",
    "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
)  # fmt: skip
CHECKED = ("-g", "-O1", "-fPIC", "-shared")  # for valgrind
FUZZED = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
READER = """
#include "fields.h"
enum word read_it(const char *packet, size_t size, const char **text);
enum word read_it(const char *packet, size_t size, const char **text) { return read_word(packet, size, text); }
"""


class Workshop:
    """A directory that everybody may read, with what was compiled so far."""

    def __init__(self) -> None:
        if not pam_module.HEADER.exists():
            absent("no headers of libpam; tools/setup test installs them")
        real("gcc")
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-module-", dir="/tmp"))
        self.root.chmod(0o755)

    def module(self) -> Path:
        """``pam_unlatch.so`` as "make pam" builds it."""
        place = self.root / "pam_unlatch.so"
        return place if place.exists() else Path(pam_module.build(place))

    def shim(self) -> Path:
        """tests/pam_shim.c."""
        place = self.root / "shim.so"
        if not place.exists():
            subprocess.run(
                [real("gcc"), "-O1", "-fPIC", "-shared", "-o", place, ROOT / "tests/pam_shim.c", "-ldl"], check=True
            )
        return place

    def variant(
        self, name: str, options: tuple[str, ...], source: str = "pam_unlatch.c", compiler: str = "gcc"
    ) -> Path:
        """A source of pam/, compiled with other options."""
        place = self.root / name
        if not place.exists():
            pam_module.compile_with(real(compiler), place, options, ROOT / "pam" / source)
        return place

    def reader(self) -> Path:
        """The reader of packets as a library: ``read_it``."""
        source = self.root / "reader.c"
        source.write_text(READER)
        options = (*CHECKED, f"-I{ROOT / 'pam'}")
        pam_module.compile_with(real("gcc"), self.root / "reader.so", options, source)
        return self.root / "reader.so"

    def close(self) -> None:
        """Forget all of it."""
        shutil.rmtree(self.root)
