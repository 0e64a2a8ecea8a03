"""``unlatch run``, and the programs that take secrets from it or from ``unlatch get``: each is the real one."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from house import UNLATCH, House
from real import real
from real_gnupg import finish
from secret_keeping import Keeping

SECRET = b"correct horse battery staple"


@pytest.fixture
def keeping(house: House) -> Keeping:
    keeping = Keeping(house)
    keeping.add("borg", SECRET)
    return keeping


def test_each_way_hands_over_the_very_bytes(keeping: Keeping) -> None:
    """A variable, a pipe, a memory file and a directory give the program the same secret, without a newline."""
    script = 'printf "%s|" "$A"; cat <&"$B"; printf "|"; cat "$C"; printf "|"; cat "$D/borg"'
    out = keeping.unlatch(
        "run", "--env", "A=borg", "--fd", "B=borg", "--file", "C=borg", "--dir", "D=borg", "--", "sh", "-c", script
    )
    assert out == b"|".join([SECRET] * 4)


def test_a_memory_file_can_be_read_again_and_not_be_changed(keeping: Keeping) -> None:
    """Programs that open a key file twice find it whole; nobody can write to it (memfd_create(2), seals)."""
    out = keeping.unlatch(
        "run", "--file", "K=borg", "--", "sh", "-c", 'cat "$K" "$K"; echo x >>"$K" || echo " refused"'
    )
    assert out == SECRET * 2 + b" refused\n"


def test_a_directory_in_memory_is_nobody_elses(keeping: Keeping) -> None:
    """It is a ramfs of mode 0700 in a mount namespace of the program's own, and gone afterwards."""
    script = 'stat -f -c %T "$D"; stat -c %a "$D"; readlink /proc/self/ns/mnt; dirname "$D"'
    kind, mode, namespace, place = keeping.unlatch("run", "--dir", "D=borg", "--", "sh", "-c", script).decode().split()
    assert (kind, mode) == ("ramfs", "700")
    assert namespace != os.readlink("/proc/self/ns/mnt")
    assert list(Path(place).iterdir()) == []


def test_a_directory_in_memory_needs_no_root(keeping: Keeping) -> None:
    """An ordinary user gets it in a user namespace, still with its own uid."""
    home = keeping.house.root
    script = 'id -u; stat -f -c %T "$D"; cat "$D/x"'
    shutil.chown(home, 65534)
    for path in home.rglob("*"):
        if not path.is_symlink():
            shutil.chown(path, 65534, 65534)
    home.chmod(0o755)
    drop = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    code = (
        "import os, sys; from unlatch.cli import handing; from unlatch.secret import Secret, forbid_core_dumps;"
        "forbid_core_dumps(); os.environ.update(handing.folders([('D', 'x', Secret(b'abc'))]));"
        "handing.become('/bin/sh', ['sh', '-c', sys.argv[1]], os.environ)"
    )
    source = Path(__file__).parents[1] / "src"
    if os.stat(source).st_uid == 0 and not os.access(source, os.R_OK):
        pytest.fail("the sources cannot be read")
    staging = home / "src"
    shutil.copytree(source, staging, ignore=shutil.ignore_patterns("__pycache__"))
    click = Path(__import__("click").__file__).parent
    shutil.copytree(click, staging / "click")
    crypto = Path(__import__("cryptography").__file__).parent
    for found in (*crypto.parent.glob("cffi"), *crypto.parent.glob("_cffi_backend*"), crypto):
        copy = shutil.copytree if found.is_dir() else shutil.copy
        copy(found, staging / found.name)
    out = keeping.run(
        *drop, "/usr/bin/python3", "-c", code, script, PYTHONPATH=str(staging), PYTHONDONTWRITEBYTECODE="1"
    )
    assert out == b"65534\nramfs\nabc"


@pytest.mark.parametrize("code", [0, 1, 3, 77])
def test_the_exit_code_is_the_programs(keeping: Keeping, code: int) -> None:
    """What the program says at its end is what its caller hears."""
    process = keeping.start(UNLATCH, "run", "--env", "A=borg", "--", "sh", "-c", f"exit {code}")
    assert finish(process)[0] == code


def test_signals_are_the_programs(keeping: Keeping) -> None:
    """The program has this process's pid, so signals reach it, and with their usual effect."""
    process = keeping.start(
        UNLATCH,
        "run",
        "--env",
        "A=borg",
        "--",
        "sh",
        "-c",
        "trap 'echo caught; exit 5' TERM; echo $$; while :; do sleep 0.05; done",
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGTERM)
    code, out, _ = finish(process)
    assert (code, out) == (5, b"caught\n")
    plain = keeping.start(UNLATCH, "run", "--env", "A=borg", "--", "sh", "-c", "echo; exec sleep 60")
    assert plain.stdout is not None
    plain.stdout.readline()
    plain.send_signal(signal.SIGINT)
    assert finish(plain)[0] == -signal.SIGINT


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--env", "A=borg", "--", "/nonexistent/program"], 127, "not found"),
        (["--env", "A=borg", "--", "/etc/passwd"], 126, "cannot be executed"),
        (["--", "true"], 2, "no secret"),
        (["--env", "borg", "--", "true"], 2, "variable=name"),
        (["--env", "A B=borg", "--", "true"], 2, "variable=name"),
        (["--env", "A=borg"], 2, "program"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_anybody_is_asked(keeping: Keeping, words: list[str], code: int, says: str) -> None:
    """A program that cannot be started, and wrong options, end with the shell's codes; no secret is opened."""
    said = keeping.fails(UNLATCH, "run", *words)
    assert said[:2] == (code, b"")
    assert says in said[2].lower()
    trail = keeping.house.runtime / "audit.jsonl"
    assert not trail.exists() or "opened" not in trail.read_text()


def test_no_secret_is_in_an_argument_or_left_open(keeping: Keeping) -> None:
    """The program's arguments are as they were given, and it inherits no descriptors but those that it was promised."""
    script = 'tr "\\0" " " </proc/$$/cmdline; ls /proc/$$/fd | tr "\\n" " "'
    out = keeping.unlatch("run", "--fd", "B=borg", "--", "sh", "-c", script).decode()
    assert SECRET.decode() not in out
    assert len(out.rpartition(" sh ")[2].split()) <= 40
    fds = keeping.unlatch("run", "--env", "A=borg", "--", "ls", "/proc/self/fd").split()
    assert fds == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


# borg


@pytest.fixture
def borg(keeping: Keeping) -> Keeping:
    real("borg")
    keeping.environ |= {
        "BORG_BASE_DIR": str(keeping.house.root / "borg"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "no",
        "BORG_REPO": str(keeping.house.root / "repo"),
    }
    (keeping.house.root / "data").write_text("precious")
    return keeping


def backs_up(keeping: Keeping, *run: str, mode: str = "repokey", **more: str) -> None:
    """init, create, extract; each with the passphrase that comes from us."""
    data = keeping.house.root / "data"
    for words in (["init", f"--encryption={mode}"], ["create", "::one", data]):
        keeping.run(*run, "borg", *words, **more)
    assert keeping.run(*run, "borg", "extract", "--stdout", "::one", **more) == b"precious"
    wrong = keeping.fails("borg", "list", BORG_PASSPHRASE="wrong")
    assert "passphrase" in wrong[2]


def test_borg_by_passcommand(borg: Keeping) -> None:
    """BORG_PASSCOMMAND="unlatch get borg" makes a repository and reads it."""
    backs_up(borg, BORG_PASSCOMMAND="unlatch get borg")


def test_borg_by_descriptor(borg: Keeping) -> None:
    """BORG_PASSPHRASE_FD as an inherited pipe; the passphrase is in no variable and no file."""
    backs_up(borg, str(UNLATCH), "run", "--fd", "BORG_PASSPHRASE_FD=borg", "--")


def test_borg_by_key_file_in_memory(borg: Keeping) -> None:
    """The key file of a keyfile repository is a memory file: it is stored here and on no disk in clear."""
    passphrase = (str(UNLATCH), "run", "--fd", "BORG_PASSPHRASE_FD=borg")
    borg.run(*passphrase, "--", "borg", "init", "--encryption=keyfile")
    (key,) = (borg.house.root / "borg").rglob("keys/*")
    borg.add("borg-key", key.read_bytes())
    key.unlink()
    data = borg.house.root / "data"
    assert borg.fails(*passphrase, "--", "borg", "create", "::one", data)[0] == 2
    for way in (("--file", "BORG_KEY_FILE=borg-key"), ("--dir", "BORG_KEYS_DIR=borg-key")):
        with_key = (*passphrase, *way, "--")
        borg.run(*with_key, "borg", "create", f"::{way[0]}", data)
        assert borg.run(*with_key, "borg", "extract", "--stdout", f"::{way[0]}") == b"precious"
    assert not list((borg.house.root / "borg").rglob("keys/*"))


def test_a_failing_passcommand_fails_the_backup(borg: Keeping) -> None:
    """Denied on the phone, borg ends with an error that names the exit code."""
    process = borg.start("borg", "init", "--encryption=repokey", BORG_PASSCOMMAND="unlatch get asked")
    borg.house.open(borg.house.phone.ring()["link"]).deny()
    code, _, err = finish(process)
    assert code == 2
    assert "returned non-zero exit status 4" in err


# restic, rclone, ansible, cryptsetup


def test_restic(keeping: Keeping) -> None:
    """RESTIC_PASSWORD_COMMAND makes a repository, backs up and reads back."""
    real("restic")
    data = keeping.house.root / "data"
    data.write_text("precious")
    environ = {
        "RESTIC_REPOSITORY": str(keeping.house.root / "repo"),
        "RESTIC_PASSWORD_COMMAND": "unlatch get borg",
        "RESTIC_CACHE_DIR": str(keeping.house.root / "cache"),
    }
    keeping.run("restic", "init", **environ)
    keeping.run("restic", "backup", data, **environ)
    assert keeping.run("restic", "dump", "latest", data, **environ) == b"precious"
    assert keeping.fails("restic", "snapshots", **(environ | {"RESTIC_PASSWORD_COMMAND": "echo wrong"}))[0]


def test_rclone(keeping: Keeping) -> None:
    """An encrypted rclone.conf is read with --password-command."""
    real("rclone")
    config = keeping.house.root / "rclone.conf"
    config.write_text("[disk]\ntype = local\n")
    encrypting = ("rclone", "--config", config, "config", "encryption", "set")
    environ = {"RCLONE_PASSWORD_COMMAND": "unlatch get borg"}
    process = keeping.start(*encrypting, **environ)
    if finish(process)[0]:
        # rclone before 1.65 encrypts at a terminal only: its own configuration menu.
        from terminal import Terminal

        environment = keeping.house.environ(**keeping.environ)
        with Terminal(["rclone", "--config", config, "config"], environment) as terminal:
            for question, answer in (
                ("e/n/d/r/c/s/q>", "s\n"),
                ("a/q>", "a\n"),
                ("password:", f"{SECRET.decode()}\n"),
                ("password:", f"{SECRET.decode()}\n"),
                ("c/u/q>", "q\n"),
                ("e/n/d/r/c/s/q>", "q\n"),
            ):
                terminal.expect(question)
                terminal.type(answer)
            terminal.end()
    assert b"[disk]" not in config.read_bytes()
    listed = keeping.run("rclone", "--config", config, "--password-command", f"{UNLATCH} get borg", "listremotes")
    assert listed == b"disk:\n"


def test_ansible_vault(keeping: Keeping) -> None:
    """A script that runs "unlatch get" is a vault password file."""
    real("ansible-vault")
    script = keeping.house.root / "vault-password"
    script.write_text(f"#!/bin/sh\nexec {UNLATCH} get borg\n")
    script.chmod(0o700)
    secret = keeping.house.root / "group_vars.yml"
    secret.write_text("token: 1\n")
    keeping.run("ansible-vault", "encrypt", "--vault-password-file", script, secret)
    assert secret.read_text().startswith("$ANSIBLE_VAULT")
    assert keeping.run("ansible-vault", "view", "--vault-password-file", script, secret) == b"token: 1\n"


def test_cryptsetup(keeping: Keeping) -> None:
    """A LUKS header takes the secret on standard input, byte for byte: without a newline."""
    real("cryptsetup")
    image = keeping.house.root / "volume.img"
    with image.open("wb") as file:
        file.truncate(20 << 20)
    quick = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
    keeping.run("sh", "-ec", f"unlatch get borg | cryptsetup luksFormat -q --type luks2 {quick} --key-file=- {image}")
    opens = f"cryptsetup open --test-passphrase --key-file=- {image}"
    keeping.run("sh", "-ec", f"unlatch get borg | {opens}")
    assert keeping.fails("sh", "-c", f"unlatch get --newline borg | {opens}")[0] == 2
