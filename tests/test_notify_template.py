"""The template for new notifiers, held to the contract: the shortest example of a notifier and its test."""

import errno
import os

from notifier_contract import NOON, NotifierContract

from unlatch.notify import Notifier, words
from unlatch.notify.template import TemplateNotifier


class TestTemplate(NotifierContract):
    """On a list in memory."""

    def setup_method(self) -> None:
        self.posted: list[words.Text] = []

    def make(self) -> Notifier:
        async def post(message_id: str, text: words.Text, loud: bool) -> None:
            self.posted.append(text)

        return TemplateNotifier("mine", post, wall_clock=lambda: NOON)

    def told(self) -> str:
        return "\n".join(f"{text.title}\n{text.body}" for text in self.posted)

    def make_broken(self) -> Notifier:
        async def refuse(message_id: str, text: words.Text, loud: bool) -> None:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH), text.body)

        return TemplateNotifier("mine", refuse, wall_clock=lambda: NOON)
