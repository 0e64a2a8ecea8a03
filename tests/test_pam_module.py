"""The PAM module under the real libpam: what it asks and shows, what it believes, and that only "allow" lets in."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pam_build import ROOT, Workshop
from pam_stack import (
    ASK,
    AUTH_ERR,
    AUTHINFO_UNAVAIL,
    CONV_ERR,
    HIDE,
    MODULE_UNKNOWN,
    SAY,
    SUCCESS,
    WARN,
    Answer,
    Stack,
)
from scripted_pam_service import Line, ScriptedPamService

from unlatch.wire import pam

ALLOW, DENY, FAIL = b"allow\0", b"deny\0", b"fail\0"
PROMPT = b"ask\0Response: \0"
UNCONFIRMED = "unlatch: this login cannot be confirmed"
Make = Callable[..., Stack]


@pytest.fixture
def stack(pam_module: Path, workshop: Workshop) -> Iterator[Make]:
    """Makes service files with the module in them."""
    made: list[Stack] = []

    def make(*arguments: str, kinds: tuple[str, ...] = ("auth",)) -> Stack:
        made.append(Stack(pam_module, workshop.shim(), *arguments, kinds=kinds))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def service() -> Iterator[ScriptedPamService]:
    """A service that lets everybody in, unless a test says what else to play."""
    with ScriptedPamService(ALLOW) as service:
        yield service


@pytest.fixture
def alice(stack: Make, service: ScriptedPamService) -> Stack:
    """Where alice logs in."""
    return stack(f"socket={service.path}")


@pytest.fixture
def impatient(stack: Make, service: ScriptedPamService) -> Stack:
    """Where alice logs in, and a second of silence is the end."""
    return stack(f"socket={service.path}", "timeout=1")


def test_the_greeting_has_all_that_pam_knows(stack: Make, service: ScriptedPamService) -> None:
    """Items, sshd's two variables and the line's arguments, but for those that the module itself understands."""
    where = stack("mode=either", f"socket={service.path}", "after_first_factor", "timeout=20")
    came = where.login(
        items={"user": "alice", "rhost": "203.0.113.5", "ruser": "bob", "tty": "ssh"},
        environ={"SSH_CONNECTION": "203.0.113.5 50000 192.0.2.1 22", "SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAA\n"},
    )
    assert came.code == SUCCESS
    assert pam.hello_from_packet(service.heard[0]) == pam.Hello(
        "unlatch-test", "alice", "203.0.113.5", "bob", "ssh", "203.0.113.5 50000 192.0.2.1 22",
        "publickey ssh-ed25519 AAAA\n", ("mode=either", "after_first_factor"),
    )  # fmt: skip


def test_the_greeting_is_the_same_from_python(alice: Stack, service: ScriptedPamService) -> None:
    """Byte for byte what wire/pam.py writes; what PAM does not know is empty."""
    alice.login()
    assert service.heard == [pam.hello_to_packet(pam.Hello("unlatch-test", "alice"))]


def test_the_environment_of_the_process_says_nothing(alice: Stack, service: ScriptedPamService) -> None:
    """Who calls sudo sets its environment, so only PAM's own counts."""
    alice.login(outside={"SSH_CONNECTION": "198.51.100.1 1 192.0.2.1 22", "SSH_AUTH_INFO_0": "publickey\n"})
    hello = pam.hello_from_packet(service.heard[0])
    assert (hello.connection, hello.authinfo) == ("", "")


def test_a_program_that_knows_no_user_is_asked(alice: Stack, service: ScriptedPamService) -> None:
    """login(1) leaves the name to PAM, which asks by the same conversation."""
    came = alice.login("bob", items={})
    assert came.code == SUCCESS
    assert pam.hello_from_packet(service.heard[0]).user == "bob"


def test_nobody_gives_no_name(alice: Stack, service: ScriptedPamService) -> None:
    """Without a name the service is not even called."""
    assert alice.login(items={}).code == AUTH_ERR
    assert service.logins == []


@pytest.mark.parametrize(("packet", "code"), [(ALLOW, SUCCESS), (DENY, AUTH_ERR), (FAIL, AUTHINFO_UNAVAIL)])
def test_the_three_ends(alice: Stack, service: ScriptedPamService, packet: bytes, code: int) -> None:
    """What the service decides is what PAM hears, and nothing is added to what the person sees."""
    service.play(packet, Line.hear)
    came = alice.login()
    assert (came.code, came.shown, came.log) == (code, [], [])
    assert service.heard[1] == b""


def test_a_whole_conversation(alice: Stack, service: ScriptedPamService) -> None:
    """Texts and prompts arrive in order with their styles and their line breaks; answers go back as they were typed."""
    armour = "-----BEGIN\n\nhQEMA+/=\n\u2588\u2580\u2584\n-----END"
    service.play(
        pam.word_to_packet("say", armour), b"wait\0", pam.word_to_packet("warn", "careful"), PROMPT, Line.hear,
        pam.word_to_packet("hide", "PIN: "), Line.hear, pam.word_to_packet("say", ""), ALLOW,
    )  # fmt: skip
    came = alice.login(" 0aZ ", "gr\u00fc\u00df")
    assert came.code == SUCCESS
    assert came.shown == [(SAY, armour), (WARN, "careful"), (ASK, "Response: "), (HIDE, "PIN: "), (SAY, "")]
    assert service.heard[1:] == [pam.answer_to_packet(b" 0aZ "), pam.answer_to_packet("gr\u00fc\u00df".encode())]


# All of these are refused by wire/pam.py too (test_pam_reader.py); here it is what comes of a whole login.
NEARLY = [
    b"allow", b"allow\0\0", b"allow\0x\0", b"ALLOW\0", b"Allow\0", b" allow\0", b"allow \0", b"allow\n\0", b"allowed\0",
    b"allo\0", b"\0", b"\0\0", b"\0allow\0", b"al\0low\0", b"say\0allow\0\0", b"say\0", b"say\0allow", b"ask\0",
    b"deny\0allow\0", b"wait\0allow\0", b"fail\0\0", b"PAM_SUCCESS\0", b"0\0", b"allow\xff\0", b"\xffallow\0",
]  # fmt: skip


def test_nothing_else_lets_in(alice: Stack, service: ScriptedPamService) -> None:
    """A packet that is nearly right ends the login, even with the right one behind it."""
    for packet in NEARLY:
        service.play(packet, ALLOW, Line.hear, times=1)
    came = alice.login(operations=("authenticate",) * len(NEARLY))
    assert came.codes == [AUTHINFO_UNAVAIL] * len(NEARLY)
    assert came.shown == [(WARN, UNCONFIRMED)] * len(NEARLY)
    assert set(came.log) == {"pam_unlatch(unlatch-test:auth): login denied: the service made no sense"}
    assert [line.heard[1] for line in service.logins] == [b""] * len(NEARLY)


def test_success_has_one_place() -> None:
    """Whoever reviews the module finds what lets in at once: behind one word, and where there is nothing to decide."""
    source = (ROOT / "pam/pam_unlatch.c").read_text()
    assert re.findall(r"^ *(.*)\n *return PAM_SUCCESS;$", source, re.MULTILINE) == [
        "case ALLOW:", "(void)pamh, (void)flags, (void)argc, (void)argv;",
    ]  # fmt: skip
    assert set(re.findall(r"\breturn (PAM_\w+)", source)) == {"PAM_SUCCESS", "PAM_AUTH_ERR", "PAM_AUTHINFO_UNAVAIL"}
    assert "PAM_IGNORE;" not in source


def test_an_end_in_the_middle(alice: Stack, service: ScriptedPamService) -> None:
    """A service that is killed while somebody is asked: what was typed goes nowhere, and the login ends at once."""
    service.play(PROMPT)
    came = alice.login("0aZ")
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, ["Response: ", UNCONFIRMED])
    assert came.log == [
        "pam_unlatch(unlatch-test:auth): login denied: the service left, was silent, or said too much at once"
    ]


def test_an_end_before_a_word(alice: Stack, service: ScriptedPamService) -> None:
    """The same if it only took the greeting."""
    service.play()
    assert alice.login().code == AUTHINFO_UNAVAIL


def test_the_last_words_are_still_read(alice: Stack, service: ScriptedPamService) -> None:
    """Somebody typed for too long: the service has ended the login meanwhile, and why is shown."""
    service.play(PROMPT, pam.word_to_packet("warn", "unlatch: too late"), DENY)
    came = alice.login("0aZ")
    assert (came.code, came.shown) == (AUTH_ERR, [(ASK, "Response: "), (WARN, "unlatch: too late")])


def test_the_last_words_survive_an_answer_that_nobody_read(alice: Stack, service: ScriptedPamService) -> None:
    """The answer came as the service was leaving: the kernel tells of a reset first, and then the words."""
    service.play(PROMPT, Line.leave_unread, pam.word_to_packet("warn", "unlatch: too late"), DENY)
    came = alice.login("0aZ")
    assert (came.code, came.texts) == (AUTH_ERR, ["Response: ", "unlatch: too late"])


def test_a_silent_service(impatient: Stack, service: ScriptedPamService) -> None:
    """It hangs, and the login ends after the time that the line allows."""
    service.play(Line.hang)
    came = impatient.login()
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, [UNCONFIRMED])
    assert 1 <= came.seconds < 10


def test_a_service_that_hears_nothing(stack: Make, tmp_path: Path) -> None:
    """It accepts nobody: the kernel took the greeting, and silence ends the login."""
    with ScriptedPamService(Line.hang) as busy:
        first, second = (stack(f"socket={busy.path}", "timeout=1") for _ in range(2))
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda each=each: codes.append(each.login().code)) for each in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert codes == [AUTHINFO_UNAVAIL] * 2


def test_a_service_that_says_wait_is_waited_for(stack: Make, service: ScriptedPamService) -> None:
    """Each "wait" begins the silence anew."""
    pause = threading.Event()

    def slowly(line: Line) -> None:
        for _ in range(6):
            pause.wait(0.4)
            line.say(b"wait\0")

    service.play(slowly, ALLOW)
    came = stack(f"socket={service.path}", "timeout=2").login()
    assert came.code == SUCCESS
    assert came.seconds > 2


@pytest.mark.parametrize("packet", [b"wait\0", b"say\0\0"])
def test_a_service_that_never_ends(alice: Stack, service: ScriptedPamService, packet: bytes) -> None:
    """Packets without an end are too many at some time."""
    service.play(lambda line: line.flood(packet))
    came = alice.login()
    assert (came.code, came.shown[-1]) == (AUTHINFO_UNAVAIL, (WARN, UNCONFIRMED))
    assert came.log == ["pam_unlatch(unlatch-test:auth): login denied: the service said too much"]


def test_a_slow_service_that_never_ends(stack: Make, service: ScriptedPamService) -> None:
    """However slow they are: after an hour it is enough. (The clock of this login runs 4000 times as fast.)"""
    pause = threading.Event()

    def slowly(line: Line) -> None:
        while line.say(b"wait\0"):
            pause.wait(0.1)

    service.play(slowly)
    came = stack(f"socket={service.path}", "timeout=3600").login(speed=4000)
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, [UNCONFIRMED])
    assert 0.9 < came.seconds < 10


def test_the_largest_packet(alice: Stack, service: ScriptedPamService) -> None:
    """What wire/pam.py can just write is shown whole."""
    text = "x" * (pam.MAX_PACKET - len(b"say\0\0"))
    service.play(pam.word_to_packet("say", text), ALLOW)
    came = alice.login()
    assert (came.code, came.texts) == (SUCCESS, [text])


@pytest.mark.parametrize("more", [1, 30000])
def test_a_packet_that_is_too_large(alice: Stack, service: ScriptedPamService, more: int) -> None:
    """The kernel would cut it, and what is left could look right."""
    service.play(b"say\0" + b"x" * (pam.MAX_PACKET - len(b"say\0\0")) + b"\0" * (more + 1), ALLOW, Line.hear)
    assert alice.login().code == AUTHINFO_UNAVAIL


def test_a_cut_packet_never_looks_right(alice: Stack, service: ScriptedPamService) -> None:
    """Its first bytes, as many as are read, are a text and its end; the rest lies behind."""
    service.play(b"say\0" + b"x" * (pam.MAX_PACKET - len(b"say\0\0")) + b"\0" + b"allow\0", ALLOW, Line.hear)
    came = alice.login()
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, [UNCONFIRMED])


def test_an_empty_packet_is_an_end(alice: Stack, service: ScriptedPamService) -> None:
    """recv(2) does not tell them apart."""
    service.play(b"", ALLOW, Line.hear)
    assert alice.login().code == AUTHINFO_UNAVAIL


def test_descriptors_of_the_service_are_not_taken(alice: Stack, service: ScriptedPamService) -> None:
    """Files that come with a packet are closed by the kernel."""

    def give(line: Line) -> None:
        socket.send_fds(line.connection, [b"wait\0"], [0, 1])

    service.play(give, PROMPT, Line.hear, ALLOW)
    came = alice.login("0aZ")
    assert (came.code, came.descriptors[0]) == (SUCCESS, came.descriptors[1])


UNHEARD = [
    pytest.param(Answer(None), id="null"),  # su after Ctrl-D
    pytest.param(Answer(None, CONV_ERR), id="error"),  # sudo after Ctrl-C
    pytest.param(Answer("0aZ", CONV_ERR), id="error with an answer"),
    pytest.param(Answer("x", length=pam.MAX_ANSWER + 1), id="too long"),
    pytest.param(Answer("x", length=1_000_000), id="far too long"),
    pytest.param(Answer("0aZ", 30), id="PAM_CONV_AGAIN"),
]


@pytest.mark.parametrize("answer", UNHEARD)
def test_nobody_answers(alice: Stack, service: ScriptedPamService, answer: Answer) -> None:
    """The login is over for PAM and for the service, which hears no answer but the end."""
    service.play(PROMPT, Line.hear)
    came = alice.login(answer)
    assert (came.code, came.shown) == (AUTH_ERR, [(ASK, "Response: ")])
    assert service.heard[1:] == [b""]


def test_nobody_reads(alice: Stack, service: ScriptedPamService, stack: Make) -> None:
    """A conversation that cannot even show a text is over too, and what the service says next lets nobody in."""
    service.play(b"say\0one\0", ALLOW, Line.hear)
    assert alice.login(mute=True).code == AUTH_ERR


@pytest.mark.parametrize(
    "typed", ["", "x" * pam.MAX_ANSWER, "\b\n\r\x7fINCORRECT", "\x1b[31m", "a\nallow", "\udcff\udc80"], ids=ascii
)
def test_what_was_typed_arrives_as_it_is(alice: Stack, service: ScriptedPamService, typed: str) -> None:
    """Control characters, as sshd types for an unknown user, and bytes that are no text: the service decides."""
    service.play(PROMPT, Line.hear, DENY)
    assert alice.login(typed).code == AUTH_ERR
    assert service.heard[1] == pam.answer_to_packet(typed.encode("utf-8", "surrogateescape"))


def test_an_answer_ends_at_a_nul(alice: Stack, service: ScriptedPamService) -> None:
    """It is a C string: nothing behind is sent, so nobody can add a field."""
    service.play(PROMPT, Line.hear, DENY)
    assert alice.login("0aZ\0allow").code == AUTH_ERR
    assert service.heard[1] == b"answer\x000aZ\0"


@pytest.mark.parametrize("name", ["a\nb", "\x1b]0;x\x07", "-rf", "../../x", "\udcff\udc80", "", "a" * 8000])
def test_odd_names_arrive_as_they_are(alice: Stack, service: ScriptedPamService, name: str) -> None:
    """The module does not judge a name; its field cannot reach into the next."""
    alice.login(items={"user": name})
    assert service.heard[0].split(b"\0")[2] == name.encode("utf-8", "surrogateescape")


def test_too_much_for_a_greeting(alice: Stack, service: ScriptedPamService) -> None:
    """What would not fit is not cut: the login ends, and the service heard nothing of it."""
    service.play(Line.hear)
    came = alice.login(environ={"SSH_AUTH_INFO_0": "x" * pam.MAX_HELLO})
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, [UNCONFIRMED])
    assert service.heard[0] == b""


def test_a_greeting_that_just_fits(alice: Stack, service: ScriptedPamService) -> None:
    """The last byte counts."""
    room = pam.MAX_HELLO - len(pam.hello_to_packet(pam.Hello("unlatch-test", "alice")))
    assert alice.login(environ={"SSH_AUTH_INFO_0": "x" * room}).code == SUCCESS
    assert len(service.heard[0]) == pam.MAX_HELLO
    service.play(Line.hear)
    assert alice.login(environ={"SSH_AUTH_INFO_0": "x" * (room + 1)}).code == AUTHINFO_UNAVAIL


def test_no_socket(stack: Make, tmp_path: Path) -> None:
    """The service was never started: denied, with one line that names the socket."""
    came = stack(f"socket={tmp_path}/pam.sock").login()
    assert (came.code, came.shown) == (AUTHINFO_UNAVAIL, [(WARN, UNCONFIRMED)])
    assert came.log == [
        f"pam_unlatch(unlatch-test:auth): login denied: no service at {tmp_path}/pam.sock: No such file or directory"
    ]


def test_nobody_listens(stack: Make, service: ScriptedPamService) -> None:
    """The service died and left its socket."""
    left = service.root / "left.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(left))
    came = stack(f"socket={left}").login()
    assert came.code == AUTHINFO_UNAVAIL
    assert came.log[0].endswith("Connection refused")


def test_another_kind_of_socket(stack: Make, service: ScriptedPamService) -> None:
    """A stream keeps no borders, so it is not spoken to."""
    other = service.root / "stream.sock"
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(str(other))
        stream.listen()
        assert stack(f"socket={other}").login().code == AUTHINFO_UNAVAIL


def test_a_service_that_is_too_busy_to_accept(stack: Make, service: ScriptedPamService) -> None:
    """Its queue is full: the wait for a place in it is bounded too."""
    busy = service.root / "busy.sock"
    with contextlib.ExitStack() as open_sockets:
        full, *callers = (
            open_sockets.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(3)
        )
        full.bind(str(busy))
        full.listen(0)
        callers[0].connect(str(busy))
        callers[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            callers[1].connect(str(busy))
        came = stack(f"socket={busy}", "timeout=1").login()
    assert came.code == AUTHINFO_UNAVAIL
    assert came.log[0].endswith("Resource temporarily unavailable")
    assert 1 <= came.seconds < 10


def test_a_service_that_is_not_roots(stack: Make) -> None:
    """Another user listens: it is told nothing, not even who wants to log in."""
    with ScriptedPamService(uid=65534) as nobodys:
        came = stack(f"socket={nobodys.path}").login()
    assert came.code == AUTHINFO_UNAVAIL
    assert came.log[0].endswith(f"{nobodys.path} is served by uid 65534")
    assert nobodys.heard == [b""]


@pytest.mark.parametrize(("mode", "owner"), [(0o775, 0), (0o757, 0), (0o1777, 0), (0o755, 65534)])
def test_a_directory_that_is_not_roots_alone(stack: Make, mode: int, owner: int) -> None:
    """Whoever can write to the directory could put a socket of their own there."""
    with ScriptedPamService(ALLOW, mode=mode, owner=owner) as service:
        came = stack(f"socket={service.path}").login()
        assert came.code == AUTHINFO_UNAVAIL
        assert came.log[0].endswith(f"the directory of {service.path} is not root's alone")
        assert service.logins == []


def test_a_directory_that_is_a_link(stack: Make, service: ScriptedPamService, tmp_path: Path) -> None:
    """A link could lead elsewhere tomorrow."""
    (tmp_path / "link").symlink_to(service.root)
    assert stack(f"socket={tmp_path}/link/pam.sock").login().code == AUTHINFO_UNAVAIL
    assert service.logins == []


@pytest.mark.parametrize("path", ["", "pam.sock", "/pam.sock", "/" + "x" * 107, "/tmp/" + "x" * 500, "@abstract"])
def test_no_path_of_a_socket(stack: Make, path: str) -> None:
    """Relative, too long, or in no directory: refused with its name in the log."""
    came = stack(f"socket={path}").login()
    assert (came.code, came.texts) == (AUTHINFO_UNAVAIL, [UNCONFIRMED])
    assert len(came.log) == 1


@pytest.mark.parametrize(
    "timeout", ["0", "-1", "3601", "1x", "x", "", "0x10", "99999999999999999999", "1.5", "+5", "36000"]
)
def test_no_number_of_seconds(stack: Make, service: ScriptedPamService, timeout: str) -> None:
    """A mistake in the line lets nobody in, and says so in the log."""
    came = stack(f"socket={service.path}", f"timeout={timeout}").login()
    assert came.code == AUTHINFO_UNAVAIL
    assert came.log[0].endswith("timeout= takes whole seconds from 1 to 3600")
    assert service.logins == []


def test_signals_do_not_disturb(alice: Stack, impatient: Stack, service: ScriptedPamService) -> None:
    """A hundred interrupted waits each second change nothing, neither for the right nor for the silent service."""

    def slowly(_: Line) -> None:
        threading.Event().wait(0.5)

    service.play(PROMPT, Line.hear, slowly, ALLOW)
    assert alice.login("0aZ", signals=0.01).code == SUCCESS
    service.play(Line.hang)
    came = impatient.login(signals=0.01)
    assert came.code == AUTHINFO_UNAVAIL
    assert 1 <= came.seconds < 10


def test_ctrl_c_is_heard_where_it_is_blocked(alice: Stack, service: ScriptedPamService) -> None:
    """sudo blocks it while PAM works: at the next "wait" the login is over, so that nobody sits out the window."""
    service.play(PROMPT, Line.hear, b"wait\0", Line.hear)
    for pressed in ("SIGINT", "SIGQUIT"):
        came = alice.login("", pressed=pressed)
        assert (came.code, came.texts) == (AUTH_ERR, ["Response: "])
        assert service.heard[2] == b""
    service.play(PROMPT, Line.hear, b"wait\0", ALLOW)
    assert alice.login("", pressed="SIGUSR1").code == SUCCESS


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)], ids=str)
def test_a_program_without_standard_input(alice: Stack, service: ScriptedPamService, closed: tuple[int, ...]) -> None:
    """The socket never takes the place of the terminal, from which a program reads or to which it writes."""
    service.play(PROMPT, Line.hear, ALLOW)
    came = alice.login("0aZ", closed=closed)
    assert came.code == SUCCESS
    assert not {str(number) for number in closed} & set(came.during)


def test_nothing_is_left_open(alice: Stack, service: ScriptedPamService) -> None:
    """No descriptor stays, and none would be handed to a program that the conversation starts."""
    for last in (ALLOW, DENY, b"rubbish"):
        service.play(PROMPT, Line.hear, last)
        came = alice.login("0aZ")
        assert came.descriptors[0] == came.descriptors[1]
        inherited = [number for number, closes in came.during.items() if not closes]
        assert set(inherited) <= {"0", "1", "2"}


def test_three_tries_of_one_process_are_three_logins(alice: Stack, service: ScriptedPamService) -> None:
    """sudo asks three times: nothing of one is left for the next."""
    service.play(PROMPT, Line.hear, DENY)
    came = alice.login("a", "b", "c", operations=("authenticate",) * 3)
    assert came.codes == [AUTH_ERR] * 3
    assert [line.heard[1] for line in service.logins] == [pam.answer_to_packet(each) for each in (b"a", b"b", b"c")]
    service.play(DENY)
    assert alice.login(operations=("authenticate", "authenticate")).codes == [AUTH_ERR] * 2


def test_credentials_need_no_service(alice: Stack, service: ScriptedPamService) -> None:
    """sshd sets them in another process than the one that authenticated; there is nothing to set."""
    assert alice.login(operations=("setcred",)).code == SUCCESS
    assert service.logins == []


def test_a_denied_login_sets_no_credentials(alice: Stack, service: ScriptedPamService) -> None:
    """In one process libpam remembers how the module answered before."""
    service.play(DENY)
    authenticated, _ = alice.login(operations=("authenticate", "setcred")).codes
    assert authenticated == AUTH_ERR


@pytest.mark.parametrize("operation", ["acct_mgmt", "open_session", "close_session", "chauthtok"])
def test_it_is_good_for_nothing_else(stack: Make, service: ScriptedPamService, operation: str) -> None:
    """In an account, session or password line it fails; a mistake there opens nothing."""
    where = stack(f"socket={service.path}", kinds=("auth", "account", "session", "password"))
    assert where.login(operations=(operation,)).code == MODULE_UNKNOWN
