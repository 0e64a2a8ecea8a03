"""Imports point inward, and the asker stays small: the two rules that keep Unlatch readable in an afternoon."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "unlatch"

# Layer -> the layers it may import besides itself. A module belongs to the longest name below that it starts with, so
# a new file lands in its folder's layer and a new top-level file must be put somewhere here.
MAY_IMPORT = {
    "core": (),
    "messages": ("core",),
    "places": ("core",),
    "asker": ("core", "places"),
    "gnupg": ("core", "places", "asker"),
    "pinentry": ("core", "places", "asker", "gnupg"),
    "keyslots": ("core", "places", "asker", "gnupg"),
    "matrix": ("core", "messages", "places"),
    "notify": ("core", "messages", "places", "matrix"),
    "broker": ("core", "messages", "places", "notify"),
    "pam": ("core", "messages", "places", "asker", "broker"),
    "cli": ("core", "messages", "places", "asker", "gnupg", "keyslots", "matrix", "notify", "broker", "pam"),
}
LAYER = {
    "errors": "core",
    "base64url": "core",
    "secret": "core",
    "prompt": "core",
    "seal": "core",
    "words": "core",
    "rules": "core",
    "wire": "core",
    "settings": "places",
    "credentials": "places",
    "toml_lines": "places",
    "config": "places",
    "runtime": "places",
    "forked": "places",
    "start": "asker",
    "ask": "asker",
    "origin": "asker",
    "frontends": "asker",
    # What a pinentry was answered it may have gpg-agent keep; what unlocks keys asks by frontends.asking.
    "frontends.pinentry": "pinentry",
    "frontends.pinentry_ask": "pinentry",
    "frontends.pinentry_keep": "pinentry",
    "gnupg": "gnupg",
    "keyslots": "keyslots",
    "broker.notice": "messages",  # what a notifier is given
    "matrix": "matrix",
    "notify": "notify",
    "broker": "broker",
    "pam": "pam",
    "answering": "cli",
    "doctor": "cli",
    "setup": "cli",
    "cli": "cli",
}
# What protocols and decisions cannot know: sockets, clocks, files, processes, randomness of their own.
IMPURE = {
    "asyncio", "datetime", "fcntl", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "pwd",
    "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib",
}  # fmt: skip
BROKER_ONLY = {"asyncio", "msgspec", "h11", "segno", "click", "http", "ssl", "email", "urllib"}
SLOW_TO_IMPORT = {"argparse", "dataclasses", "inspect", "logging", "pathlib", "secrets", "subprocess", "tempfile"}


def modules() -> list[tuple[str, Path]]:
    """Every module of the package as (name without "unlatch.", file); the packages' own __init__ by their name."""
    named = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        named.append((".".join(part for part in parts if part != "__init__"), path))
    return named


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((LAYER[prefix] for prefix in prefixes if prefix in LAYER), None)


class _Imports(ast.NodeVisitor):
    """Collects the absolute names that a file imports anywhere, also late; not those for the type checker only."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def visit_If(self, node: ast.If) -> None:
        for_the_checker = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.orelse if for_the_checker else [*node.body, *node.orelse]:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        self.names += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"line {node.lineno}: a relative import"
        # "from unlatch.wire import lines" imports a module, "from unlatch.prompt import Prompt" a name of one.
        self.names += [f"{node.module}.{alias.name}" for alias in node.names]


def imports(path: Path) -> list[str]:
    collector = _Imports()
    collector.visit(ast.parse(path.read_text()))
    return collector.names


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name or "unlatch" for name, _ in modules()])
def test_imports_point_inward(module: str, path: Path) -> None:
    """A module imports only its own layer and the layers inside it."""
    layer = layer_of(module) if module else "core"
    assert layer is not None, f"put {module} into a layer of this test, on purpose"
    for name in imports(path):
        if name.startswith("unlatch."):
            target = layer_of(name.removeprefix("unlatch."))
            assert target in (None, layer, *MAY_IMPORT[layer]), f"{module} ({layer}) imports {name} ({target})"


def with_all_imports(*roots: str) -> set[str]:
    """These modules, and all of ours that they import, directly or not."""
    files, found, to_do = dict(modules()), set[str](), list(roots)
    while to_do:
        module = to_do.pop()
        if module not in found:
            found.add(module)
            names = [name.removeprefix("unlatch.") for name in imports(files[module]) if name.startswith("unlatch.")]
            to_do += [part for name in names for part in (name, name.rpartition(".")[0]) if part in files]
    return found - {""}


def test_protocols_and_decisions_know_no_outside_world() -> None:
    """The core, the pending table and Matrix's encryption get time and bytes as arguments; they do no I/O."""
    files = dict(modules())
    core = [module for module in files if module and layer_of(module) == "core"]
    for module in with_all_imports("broker.pending", "matrix.crypto", "matrix.sas", *core) - {"broker", "wire"}:
        outside = {name.split(".")[0] for name in imports(files[module])} & IMPURE
        assert not outside, f"{module} imports {sorted(outside)}"


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a statement, less those it starts with."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    return {name.split(".")[0] for name in out.split()}


def test_the_asker_needs_the_standard_library_and_cryptography_only() -> None:
    """Everything an asker imports from the greeting to the opened answer: no web framework, no asyncio, no notifier."""
    loaded = imported_by("import unlatch.frontends.pinentry, unlatch.ask, unlatch.seal")
    assert not loaded & BROKER_ONLY
    third_party = loaded - sys.stdlib_module_names - {"unlatch"}
    # The two with an underscore are C modules that cryptography brings.
    assert third_party <= {"cryptography", "_cffi_backend", "_openssl"}, f"the asker imports {sorted(third_party)}"


def test_the_pinentry_imports_nothing_slow_before_it_can_listen() -> None:
    """The front end answers gpg-agent's first command at once: what is dear to import comes late or never."""
    assert not imported_by("import unlatch.frontends.pinentry") & (BROKER_ONLY | SLOW_TO_IMPORT | {"cryptography"})


@pytest.mark.parametrize("check", ["card_check", "key_check"])
def test_the_checks_in_front_of_jobs_start_without_the_parser(check: str) -> None:
    """They run before every job, and importing click takes longer than all that they do."""
    assert not imported_by(f"import unlatch.cli.entry, unlatch.cli.{check}") & {"click", "cryptography", "asyncio"}


def test_no_temporary_file_is_where_the_environment_says() -> None:
    """TMPDIR, which su keeps, may be a directory of the user's: he could exchange what root is about to use."""
    makers = {"TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "mkdtemp", "mkstemp", "gettempdir"}
    seen, found = 0, []
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in makers:
                seen += 1
                if not any(keyword.arg == "dir" for keyword in node.keywords):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
    assert seen >= 7
