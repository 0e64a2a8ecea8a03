"""The document: one response without a byte from elsewhere, and a policy that lets nothing else in."""

import base64
import gzip
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from unlatch.broker import page
from unlatch.prompt import KINDS, Prompt


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        if self.open in self.inside:
            self.inside[self.open].append(data)


def parsed(document: bytes) -> _Tags:
    tags = _Tags()
    tags.feed(document.decode())
    return tags


def policy() -> dict[str, str]:
    directives = dict(page.headers())["Content-Security-Policy"].split("; ")
    return {name: value for name, _, value in (directive.partition(" ") for directive in directives)}


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_page_is_small() -> None:
    """The whole page is one request of at most 12 KiB gzipped."""
    assert len(gzip.compress(page.document(), 6)) <= 12 * 1024


def test_nothing_is_loaded_from_anywhere() -> None:
    """No address of any kind stands in the documents: no source, no link, no image, no font, no form action."""
    for document in (page.document(), page.dead_document()):
        attributes = {name for _, attrs in parsed(document).tags for name in attrs}
        assert attributes.isdisjoint({"src", "href", "action", "srcset", "data", "poster", "background", "style"})
        assert not re.search(rb"url\(|@import|https?://", document)
        assert not any(name.startswith("on") for name in attributes)


def test_the_policy_allows_this_script_and_this_style_only() -> None:
    """Script and style are allowed by their hashes; everything else starts from 'none'."""
    tags = parsed(page.document())
    [script], [style] = tags.inside["script"], tags.inside["style"]
    assert policy() == {
        "default-src": "'none'",
        "script-src": hashed(script),
        "style-src": hashed(style),
        "connect-src": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_neither_cache_nor_referrer_nor_frame_learns_of_the_page() -> None:
    """The headers that keep a link's page out of caches, other sites and frames."""
    headers = dict(page.headers())
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert all(value.isascii() and "\n" not in value for value in headers.values())


def test_the_dead_page_gives_no_reason_and_runs_no_script() -> None:
    """The body of the one 404 is static and has nothing to type into."""
    tags = parsed(page.dead_document())
    names = {tag for tag, _ in tags.tags}
    assert names.isdisjoint({"script", "form", "input", "button"})
    assert tags.inside["style"] == parsed(page.document()).inside["style"]
    assert b"There is nothing to answer here" in page.dead_document()


def test_comments_stay_at_home() -> None:
    """What only readers of the source need is not sent, and nothing else is lost with it."""
    document = page.document().decode()
    assert "/*" not in document
    assert not re.search(r"(^|\s)// ", document)
    assert "WebCrypto" not in document


def test_no_field_is_named_like_a_one_time_code() -> None:
    """Password managers leave fields called pin, code or otp alone; ours are called passphrase and username."""
    fields = {attrs["name"]: attrs for tag, attrs in parsed(page.document()).tags if tag == "input"}
    assert set(fields) == {"username", "passphrase", "repeat", "keep", "digits"}
    assert fields["username"]["autocomplete"] == "username"
    assert "readonly" in fields["username"]


def test_the_fingerprint_is_that_of_the_bytes_sent() -> None:
    """An administrator can compare it with sha256sum of what a phone was served."""
    assert page.fingerprint() == hashlib.sha256(page.document()).hexdigest()


def test_the_page_knows_every_kind_and_every_field() -> None:
    """The names in the script are those of unlatch.prompt."""
    script = parsed(page.document()).inside["script"][0]
    assert f'const DETAILS="{" ".join(sorted(Prompt._fields))}";' in script
    for kind in KINDS:
        assert re.search(rf'[{{,]"?{kind}"?:{{asks:', script), kind


def test_what_the_page_says_is_not_changed_on_the_way() -> None:
    """Joining the files takes blanks out of code; every text in them is in the document as it was written."""
    script = parsed(page.document()).inside["script"][0]
    folder = Path(page.__file__).parent
    for name in ("seal.js", "show.js", "page.js"):
        code = [line.split(" // ")[0] for line in (folder / name).read_text().splitlines()]
        texts = [text for line in code if not line.strip().startswith("//") for text in re.findall(r'"[^"`]*"', line)]
        templates = [text for line in code if line.count("`") == 2 for text in re.findall(r"`[^`]*`", line)]
        assert len(texts) > 10
        assert [text for text in (*texts, *templates) if text not in script] == []
