"""``unlatch ring``: a test prompt that goes the whole way of a real one."""

import os
import time

import click

from unlatch import runtime
from unlatch.ask import Asker
from unlatch.cli import admin, voice
from unlatch.config import load
from unlatch.errors import BadConfig, Denied, Expired
from unlatch.prompt import Answer, AskerInfo, Prompt, Verdict
from unlatch.secret import forbid_core_dumps
from unlatch.words import match_words


@click.command(
    short_help="Ring yourself, to see that links arrive.",
    epilog="""\b
Example:
  $ unlatch ring --timeout 120 && echo "the way to my phone works"

\b
Exit codes: 0 answered, 1 an error or refused, 4 denied or nobody answered.
""",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    default=300,
    help="How long to wait, 1 to 86400.  [default: 300]",
)
def command(timeout: int) -> int:
    """Ring yourself, to see that links arrive: a notice that asks for nothing but OK.

    It goes through broker, notifiers and page as a real prompt does, and waits until somebody presses OK.
    """
    forbid_core_dumps()
    uid = os.geteuid()
    configuration = load(None, os.environ, uid)
    if mistakes := configuration.mistakes:  # found now rather than at three in the morning
        raise BadConfig([str(mistake) for mistake in mistakes])
    prompt = Prompt(
        kind="notice",
        title="A test: press OK",
        text='Somebody typed "unlatch ring" to see whether links arrive. Nothing is unlocked.',
        words=match_words(os.urandom),
        asked=int(time.time()),
        asker=AskerInfo(command="unlatch ring", tty=_tty()),
        ok="OK",
    )
    asker = Asker(runtime.candidates(uid, os.environ, admin.home(uid)), uid=uid, environ=os.environ)
    try:
        asker.open()
        question = asker.put(prompt, seconds=timeout)
        voice.tell(f"ringing; the words are {' '.join(prompt.words)}; Ctrl-C takes it back")
        if not configuration.settings.notifiers:  # five minutes of waiting would be the only sign of it
            voice.tell(
                'there is no notifier, so no phone rings: "unlatch setup" adds one, "unlatch answer" answers here'
            )
        answer = asker.wait(question)
        assert isinstance(answer, Answer)  # no descriptor was given to watch
        accepted = answer.answer == "yes"
        asker.verdict(question, Verdict("accepted" if accepted else "denied"))
        if not accepted:
            raise Denied
        told = f" ({', '.join(question.told)} delivered it)" if question.told else ""
        voice.say(voice.clean(f"answered{told}"))
    except Expired:
        hint = '"unlatch log --since 10m" and "unlatch status" say whether the message was delivered'
        voice.fail("the prompt expired: nobody pressed OK in time", hint, code=voice.OVER)
    finally:
        asker.close()
    return voice.OK


def _tty() -> str:
    try:
        return os.ttyname(0)
    except OSError:
        return ""
