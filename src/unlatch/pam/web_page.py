"""What the page of one login is made of: documents without scripts, and the headers that they are served with.

It tells no more than the message: who reads the page without the key learns which key it is for, and that somebody
logs in. Which login that is stands inside the encryption.
"""

import base64
import hashlib
import html
from pathlib import Path

from unlatch.pam import qr

_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
        "sandbox allow-downloads",
    ),
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),  # for what does not know frame-ancestors
    ("X-Robots-Tag", "noindex, nofollow"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
MESSAGE_HEADERS = (
    ("Content-Type", "application/pgp-encrypted"),  # RFC 3156; OpenPGP apps offer to open it
    ("Content-Disposition", 'attachment; filename="login.asc"'),
    *HEADERS[1:],
)
ASK = ("WWW-Authenticate", 'Basic realm="Unlatch login", charset="UTF-8"')  # RFC 7617


def document(armour: str, message_path: str) -> bytes:
    """The page of one challenge. ``message_path`` is where the bare message can be had."""
    code = qr.modules(armour.strip())
    image = qr.svg(code, "The message as a QR code") if code else ""
    ways = "Open the message, scan it, or copy it" if code else "Open the message, or copy it"
    return _page(
        "A login waits for your response",
        f"""<p class="lead">{ways}, and decrypt it with your key. It says which login it is for. Only if that is yours,
type the response into the session.</p>
<div class="ways">
<p><a href="{html.escape(message_path)}" download="login.asc">Open the message</a></p>
{image}
<section class="message">
<h2>The message: one touch selects it</h2>
<pre>{html.escape(armour.strip())}</pre>
</section>
<p class="foot">This page ends with the login.</p>
</div>""",
    )


def _page(title: str, content: str) -> bytes:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>Unlatch</header>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
""".encode()


WHO_ARE_YOU = _page(
    "This page asks for a name and a password",
    "<p>Both stand in the session that logs in, beside the address. Reload the page to be asked again.</p>",
)
NOTHING_HERE = _page(
    "There is nothing here",
    "<p>Is the address the whole of what the session shows? Each login has a page of its own, which ends with it.</p>",
)
