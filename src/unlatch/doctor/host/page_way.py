"""What is on the way to the page: who changes its headers, stops answers, serves it in clear, or ends TLS early."""

from unlatch.broker import page
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.host.page_look import Answer, PageLook, Reply, page_look
from unlatch.doctor.host.words import listed, look_into_proxy

OURS = ("page", "dead")
# Without these the page is not the one that the threat model speaks of; the others are belts to these braces.
_NEEDED = ("content-security-policy", "cache-control")
# Headers of those who end TLS for others, and their names.
_ENDS_TLS = {
    "cf-ray": "Cloudflare",
    "x-amz-cf-id": "Amazon CloudFront",
    "x-azure-ref": "Azure Front Door",
    "x-fastly-request-id": "Fastly",
    "x-vercel-id": "Vercel",
    "fly-request-id": "Fly.io",
    "x-akamai-request-id": "Akamai",
    "x-sucuri-id": "Sucuri",
    "x-iinfo": "Imperva",
}
_SERVERS = {"cloudflare": "Cloudflare", "akamaighost": "Akamai", "cloudfront": "Amazon CloudFront", "awselb": "Amazon"}
_MAX_NAME = 64  # characters of what somebody else calls itself
_LOCAL_VIA = ("caddy", "nginx", "haproxy", "traefik", "apache")  # proxies that people run themselves and that say so


def _nothing_to_look_at(look: PageLook) -> Finding | None:
    """Where there is no answer of ours there is nothing to say; the check "page" has said why, and what to type."""
    if look.loopback:
        return ok("links are for this machine only")
    if not _answered(look):
        return unknown("not seen, as nothing of ours answers", "")
    return None


def _answered(look: PageLook) -> list[Answer]:
    return [answer for answer in look.answers if answer.first.body in OURS]


def judge_headers(look: PageLook, _: Situation) -> Finding:
    """Each header must arrive as it was sent, once."""
    nothing = _nothing_to_look_at(look)
    if nothing:
        return nothing
    for answer in _answered(look):
        seen = {name: answer.first.header(name) for name, _ in _sent()}
        lost = [name for name, value in _sent() if seen[name] != value]
        needed = [name for name in lost if name in _NEEDED]
        if needed:
            return problem(f"{answer.address}: a proxy changes or drops {listed(needed)}", look.curl(answer))
        if lost:
            return warning(f"{answer.address}: a proxy changes or drops {listed(lost)}", look.curl(answer))
    return ok("policy and cache headers arrive as they are sent")


def _sent() -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in page.headers()]


def judge_answers(look: PageLook, situation: Situation) -> Finding:
    """A POST for a ticket without a prompt must come back as the dead-link page of the broker's."""
    nothing = _nothing_to_look_at(look)
    if nothing:
        return nothing
    for answer in _answered(look):
        post = answer.post
        if post is None or (post.status == 404 and post.body == "dead"):
            continue
        what = post.trouble or f"it answers {post.status}"
        text = f"{answer.address}: the page can be seen and not answered, as no POST gets through: {what}"
        return problem(text, look_into_proxy(situation))
    return ok("what is typed gets through to the broker")


def judge_plain_http(look: PageLook, situation: Situation) -> Finding:
    """At http:// there should be a redirect, or nothing."""
    nothing = _nothing_to_look_at(look)
    if nothing:
        return nothing
    for answer in _answered(look):
        plain = answer.plain
        if plain is not None and plain.body != "other" and not plain.trouble:
            text = f"{answer.address}: the page is served at http:// too, where anybody on the way can replace it"
            return warning(text, look_into_proxy(situation))
    return ok("nothing of ours is served at http://")


def judge_tls_end(look: PageLook, _: Situation) -> Finding:
    """Whoever ends TLS can replace the page, and read what is typed."""
    nothing = _nothing_to_look_at(look)
    if nothing:
        return nothing
    for answer in _answered(look):
        who = _who_else(answer.first)
        if who:
            text = f"{answer.address}: {who} ends TLS there and can read what is typed; that should be your own machine"
            return warning(text, command("getent", "ahosts", look.host))
    return ok("no sign of anybody who ends TLS for you")


def _who_else(reply: Reply) -> str:
    for name, who in _ENDS_TLS.items():
        if reply.header(name):
            return who
    server = reply.header("server").lower()
    for start, who in _SERVERS.items():
        if server.startswith(start):
            return who
    via = reply.header("via")
    hops = [hop.split()[1] for hop in via.split(",") if len(hop.split()) > 1]
    foreign = [hop for hop in hops if not hop.lower().startswith(_LOCAL_VIA)]
    return f'a proxy that calls itself "{foreign[0][:_MAX_NAME]}"' if foreign else ""


PAGE_HEADERS = Check(
    "page-headers",
    "content security policy, `no-store` and the other headers arrive as the broker sends them",
    "take the proxy's own `header` or `add_header` lines away from this location",
    PageLook,
    page_look,
    judge_headers,
)
PAGE_ANSWERS = Check(
    "page-answers",
    "the proxy lets a POST through, so that a page can be answered and not only seen",
    "take method filters and application firewalls away from this location",
    PageLook,
    page_look,
    judge_answers,
)
PLAIN_HTTP = Check(
    "plain-http",
    "the page is not served at `http://` as well",
    "redirect `http://` to `https://` in the proxy; Caddy does so by itself",
    PageLook,
    page_look,
    judge_plain_http,
)
TLS_END = Check(
    "tls-end",
    "no content delivery network and no foreign proxy ends TLS before the page: whoever does can read what is typed",
    'let the name lead to a machine of your own; with some providers that is one switch ("DNS only")',
    PageLook,
    page_look,
    judge_tls_end,
)
