"""What every notifier keeps: the test class that each of them, ours or yours, inherits.

class TestMine(NotifierContract):
    def make(self): ...         # one that works
    def told(self): ...         # what reached people
    def make_broken(self): ...  # one that cannot deliver
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from unlatch.broker.notice import Also, Notice
from unlatch.notify import NotDelivered, Notifier

FRAGMENT = "F" * 86
LINK = f"http://localhost:8420/{'T' * 22}#{FRAGMENT}"
NOON = 1_000_000_000.0
NOTICE = Notice(
    id="0123456789ab", link=LINK, words=("amber", "canoe"), host="web03", user="backup", uid=34, person="zoe",
    kind="passphrase", title="Unlock the key of sql-root", text="", command="pass", unit="backup.service",
    remaining=60.0,
)  # fmt: skip
ENDED = NOTICE._replace(link="", remaining=0.0)
OTHER_LINK = f"http://localhost:8420/{'U' * 22}#{'G' * 86}"
MORE = (
    Also(OTHER_LINK, ("birch", "delta"), "mail", "Unlock the key of mail", "postfix", "postfix.service"),
    Also("", ("cedar", "ember"), "git", "Unlock the key of git", "git", "", "denied"),
)

_T = TypeVar("_T")


def run(story: Awaitable[_T]) -> _T:
    async def told() -> _T:
        async with asyncio.timeout(20):
            return await story

    return asyncio.run(told())


class NotifierContract:
    """What every notifier keeps. A subclass makes one, says what it has told people, and breaks one."""

    def make(self) -> Notifier:
        raise NotImplementedError

    def told(self) -> str:
        """Everything that has reached people so far."""
        raise NotImplementedError

    def make_broken(self) -> Notifier:
        """One that cannot deliver."""
        raise NotImplementedError

    def test_it_has_a_name_and_says_whether_it_is_end_to_end(self) -> None:
        """The pending table needs both."""
        notifier = self.make()
        assert notifier.name
        assert isinstance(notifier.end_to_end, bool)

    def test_a_ring_carries_the_link_and_who_asks(self) -> None:
        """Link, host, user, title and match words reach the person."""
        run(self.make().ring(NOTICE))
        for part in (LINK, "web03", "backup", "Unlock the key of sql-root", "amber", "canoe"):
            assert part in self.told()

    def test_a_reminder_carries_the_link_again(self) -> None:
        """So nobody has to look for it."""
        run(self.make().remind(NOTICE))
        assert LINK in self.told()

    def test_the_end_says_how_and_has_no_link(self) -> None:
        """The person reads the outcome; there is nothing left to open."""
        run(self.make().end(ENDED, "withdrawn"))
        assert "withdrawn" in self.told()
        assert "/T" not in self.told()

    def test_a_list_shows_every_prompt_and_those_that_are_over_without_a_link(self) -> None:
        """A burst is one message: each prompt with its own link, or with how it ended."""
        run(self.make().ring(NOTICE._replace(more=MORE)))
        for part in (LINK, OTHER_LINK, "Unlock the key of mail", "birch", "Unlock the key of git", "denied"):
            assert part in self.told()
        assert self.told().count("/U") == 1

    def test_a_page_that_cannot_be_reached_is_told_of(self) -> None:
        """With the link, which may work a moment later, and with the reason."""
        run(self.make().ring(NOTICE._replace(page_trouble="name: it cannot be resolved")))
        assert LINK in self.told()
        assert "it cannot be resolved" in self.told()

    def test_a_quiet_ring_with_a_new_link_arrives(self) -> None:
        """The earlier link is dead, so the new one must not be lost; how quietly is the notifier's affair."""
        run(self.make().ring(NOTICE._replace(quiet=True)))
        assert LINK in self.told()

    def test_a_failure_is_an_excuse_without_the_link(self) -> None:
        """NotDelivered says why, and nothing of the notice."""
        with pytest.raises(NotDelivered) as failure:
            run(self.make_broken().ring(NOTICE))
        assert failure.value.why
        assert failure.value.__cause__ is None
        assert not any(part in failure.value.why for part in (FRAGMENT, "T" * 22, "sql-root", "amber"))

    def test_nothing_of_it_goes_on_after_a_cancellation(self) -> None:
        """Cancelled at any of its first steps, it raises that and leaves no task behind."""

        async def story() -> None:
            for steps in range(6):
                task = asyncio.ensure_future(self.make().ring(NOTICE))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.done()
            assert len(asyncio.all_tasks()) == 1

        run(story())
