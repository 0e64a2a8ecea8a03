"""The bell: who is told what about a prompt, when it rings aloud, and when it only edits what it said. Pure.

A prompt and those that follow it (after a wrong answer, or from the same user and key within ten minutes) share one
message, named by ``OpenPrompt.id``.
"""

from typing import NamedTuple

from unlatch.broker.actions import Actions, End, Remind, Resume, Ring
from unlatch.broker.notice import Notice, unit_of
from unlatch.broker.policy import Policy
from unlatch.broker.quotas import RingQuota
from unlatch.broker.records import DELIVERED, RINGING, OpenLink, OpenPrompt, Whose

QUIET_SECONDS = 600  # the same user and key asking again within this time edits the old message
_CROWDED = "Too many pages opened the last link. This is a fresh one."
_NO_MORE = "Too many pages opened each of the links. There will be no fresh one: pages that are open go on."
_LOST = "The page did not go on by itself. This link does."


class _Rang(NamedTuple):
    at: float
    prompt_id: str


class Bell:
    """Makes the actions that people hear or see."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._quota = RingQuota(policy.quota_rings)
        self._rang: dict[tuple[Whose, str], _Rang] = {}  # in the order of their times

    def earlier(self, now: float, whose: Whose, coalesce: str) -> str:
        """The id of the message that the same user and key rang with a moment ago, or nothing."""
        while self._rang and self._rang[oldest := next(iter(self._rang))].at + QUIET_SECONDS <= now:
            del self._rang[oldest]
        rang = self._rang.get((whose, coalesce)) if coalesce else None
        return rang.prompt_id if rang else ""

    def forget(self, prompt: OpenPrompt) -> None:
        """Somebody answered: what the same user and key ask next is a new question, and rings."""
        rang = self._rang.get((prompt.whose, prompt.coalesce))
        if rang and rang.prompt_id == prompt.id:
            del self._rang[prompt.whose, prompt.coalesce]

    def charge(self, now: float, whose: Whose, *, quiet: bool) -> None:
        """Count a ring before it is promised.

        Raises:
            Refused: "quota"
        """
        self._quota.charge(now, whose, quiet=quiet)

    def ring(
        self, now: float, link: OpenLink, notifiers: tuple[str, ...], *, quiet: bool = False, note: str = ""
    ) -> Actions:
        """Send a link whose ring is already counted."""
        prompt = link.prompt
        if not notifiers:
            return []
        if self._policy.remind_after:
            prompt.remind_at = now + self._policy.remind_after
        if prompt.coalesce and not quiet:
            self._rang.pop((prompt.whose, prompt.coalesce), None)
            self._rang[prompt.whose, prompt.coalesce] = _Rang(now, prompt.id)
        prompt.delivery |= dict.fromkeys(notifiers, RINGING)
        return [Ring(prompt.id, self._notice(now, link, note=note, quiet=quiet), notifiers)]

    def ring_fresh(self, now: float, link: OpenLink, notifiers: tuple[str, ...]) -> Actions:
        """Send another link to the same prompt, because too many pages opened the last one."""
        return self.ring(now, link, notifiers, note=_CROWDED)

    def ring_again(self, now: float, prompt: OpenPrompt) -> Actions:
        """Nobody viewed the link that goes on after an answer. Without a sound if this user rang too often."""
        quiet = not self._quota.allows(now, prompt.whose, quiet=False)
        return self.ring(now, prompt.links[-1], prompt.notifiers, quiet=quiet, note=_LOST)

    def remind(self, now: float, prompt: OpenPrompt, *, crowded: bool = False) -> Actions:
        """Call attention to the newest link again, where it arrived; elsewhere it is still being sent."""
        names = tuple(name for name, what in prompt.delivery.items() if what == DELIVERED)
        if not names:
            return []
        notice = self._notice(now, prompt.links[-1], note=_NO_MORE if crowded else "")
        return [Remind(prompt.id, notice, names)]

    def resume(self, now: float, link: OpenLink) -> Actions:
        """People heard of this link from an earlier broker."""
        names = link.prompt.reached
        return [Resume(self._notice(now, link), names)] if names else []

    def end(self, now: float, prompt: OpenPrompt, outcome: str) -> Actions:
        """Edit the message. The shell ends, too, what is still being sent."""
        if not prompt.delivery:
            return []
        notice = self._notice(now, prompt.links[-1])._replace(link="", remaining=0.0, quiet=True)
        return [End(prompt.id, notice, prompt.reached, outcome)]

    def _notice(self, now: float, link: OpenLink, *, note: str = "", quiet: bool = False) -> Notice:
        prompt, question = link.prompt, link.question()
        whole = link.link()
        return Notice(
            id=prompt.id,
            link=f"{self._policy.public_url}{whole.ticket_text}#{whole.fragment}",
            words=question.words,
            host=self._policy.host,
            user=prompt.user,
            uid=prompt.uid,
            person=prompt.person,
            kind=question.kind,
            title=question.title,
            text="\n".join(text for text in (note, question.error, question.text) if text),
            command=question.asker.command,
            unit=unit_of(question.asker),
            remaining=max(0.0, prompt.expires - now),
            quiet=quiet,
        )
