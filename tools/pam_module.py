"""Build the PAM module: dist/pam_unlatch.so (make pam), and the same file for the Debian package (tools/deb.py).

Two builds by the same compiler are equal byte for byte: nothing here names a place or a time. For another processor
there is a cross compiler, but no libpam to link with; so it links with an empty library that has libpam's name and the
functions that the module calls. What is recorded in the module is the name, in both cases.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "pam" / "pam_unlatch.c"
HEADER = Path("/usr/include/security/pam_modules.h")
NAME = "pam_unlatch.so"
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
FOREIGN = {
    "amd64": "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
    "arm64": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
}
STRICT = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-Wvla", "-Werror")
HARD = (
    "-O2", "-fstack-protector-strong", "-fstack-clash-protection", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2",
    "-fPIC", "-shared", "-Wl,-z,relro,-z,now,-z,defs,-z,noexecstack,--as-needed",
)  # fmt: skip
CALLED = ("pam_get_item", "pam_get_user", "pam_getenv", "pam_prompt", "pam_syslog")


def main() -> None:
    """Build what the arguments say, and print where it is."""
    parser = argparse.ArgumentParser(prog="tools/pam_module.py", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--architecture", default="", choices=["", *TRIPLETS], help="this machine's unless given")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(build(arguments.output / NAME, arguments.architecture))


def build(place: Path, architecture: str = "") -> Path:
    """Build the module as people install it, stripped; exits with a hint if it cannot be."""
    if not HEADER.exists():
        sys.exit(f"tools/pam_module: {HEADER} is missing: apt-get install libpam0g-dev")
    triplet = TRIPLETS.get(architecture, "")
    foreign = bool(triplet) and not triplet.startswith(platform.machine())
    packages = FOREIGN[architecture] if foreign else "gcc"
    gcc, strip = (program(f"{triplet}-{name}" if foreign else name, packages) for name in ("gcc", "strip"))
    with tempfile.TemporaryDirectory(prefix="unlatch-pam-") as directory:
        compile_with(gcc, place, (*HARD, *(stand_in(gcc, Path(directory)) if foreign else ())))
    run([strip, "--strip-all", "--remove-section=.comment", place])
    return place


def stand_in(gcc: str, directory: Path) -> tuple[str, str]:
    """What a processor without libpam links with; the options that lead there."""
    (directory / "security").symlink_to(HEADER.parent)  # the same for all, as its neighbours in /usr/include are not
    (directory / "empty.c").write_text("".join(f"void {name}(void) {{}}\n" for name in CALLED))
    library = directory / "libpam.so"
    run([gcc, "-fPIC", "-fno-builtin", "-shared", "-Wl,-soname,libpam.so.0", "-o", library, directory / "empty.c"])
    return f"-I{directory}", f"-L{directory}"


def compile_with(gcc: str, place: Path, options: Sequence[str], source: Path = SOURCE) -> None:
    """Compile and link one source with libpam; warnings are errors."""
    run([gcc, *STRICT, *options, "-o", place, source, "-lpam"])


def program(name: str, packages: str) -> str:
    """The path of a program; exits with the Debian packages that have it."""
    found = shutil.which(name)
    return found or sys.exit(f"tools/pam_module: {name} is missing: apt-get install {packages}")


def run(command: Sequence[str | Path]) -> None:
    """Run a compiler, which says itself what is wrong."""
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit("tools/pam_module: that was not compiled")


if __name__ == "__main__":
    main()
