"""Is the page where its links say: at every address of the name, unchanged, and this very broker's?"""

from unlatch.broker.probe import explain_status
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.host.names import is_loopback
from unlatch.doctor.host.page_look import Answer, PageLook, Reply, page_look
from unlatch.doctor.host.words import edit, listed, look_into_proxy


def judge(look: PageLook, situation: Situation) -> Finding:
    """Every address of the name must lead to the page: phones choose one as they like."""
    if look.loopback:
        return ok(f"{look.url} is for this machine only; elsewhere it needs a tunnel, or unlatch answer")
    if look.names.why:
        return _worse(look, problem(f"{look.host}: {look.names.why}", command("getent", "ahosts", look.host)))
    tried = [answer for answer in look.answers if not answer.first.unreachable]
    for answer in tried:
        trouble = _trouble(answer, look, situation)
        if trouble is not None:
            only = "; DNS has no address for it, and that is where phones look" if look.names.here_only else ""
            return trouble._replace(text=f"{answer.address}: {trouble.text}{only}")
    if not tried:
        text = f"this host has no way to {listed([answer.address for answer in look.answers])}"
        return unknown(text, command("ip", "route", "get", look.answers[0].address))
    return _fine(look, tried)


def _fine(look: PageLook, tried: list[Answer]) -> Finding:
    where = listed([answer.address for answer in tried])
    if any(answer.first.body == "dead" for answer in tried):
        text = f"{where}: a page of ours answers; whether it is this broker's was not seen, as {look.broker}"
        return unknown(text, command("sudo", "unlatch", "doctor"))
    if look.names.here_only or all(is_loopback(answer.address) for answer in tried):
        text = f"{look.url} is answered on {where}, which only this host can reach; DNS does not know the name"
        return warning(text, command("getent", "ahosts", look.host))
    left = [answer.address for answer in look.answers if answer.first.unreachable]
    rest = f"; not tried, as this host has no way there: {listed(left)}" if left else ""
    return ok(f"{look.url} gives the page at {where}{rest}")


def _trouble(answer: Answer, look: PageLook, situation: Situation) -> Finding | None:
    """What is wrong with what one address answered."""
    reply = answer.first
    see = look.curl(answer)
    if reply.trouble:
        return _worse(look, problem(reply.trouble, see))
    refused = [arrived for arrived in answer.arrivals if arrived.refused]
    if refused:
        text = f"the broker does not know the proxy {refused[0].client}, so every link looks dead: allow_from"
        return problem(text, edit(situation, look.file))
    if reply.body == "page":
        return _packed_trouble(answer, see)
    if reply.body == "dead" and not answer.looked:
        return None
    if reply.body == "dead":
        return _wrong_way(answer, look, situation)
    if reply.body == "altered":
        return problem("the page is changed on its way here, by a proxy or a filter", see)
    return _not_ours(reply, look, see, situation)


def _packed_trouble(answer: Answer, see: str) -> Finding | None:
    if answer.packed is None or answer.packed.body == "page":
        return None
    return problem("the page is another one when it comes compressed, as browsers ask for it", f"{see} --compressed")


def _wrong_way(answer: Answer, look: PageLook, situation: Situation) -> Finding:
    if not answer.arrivals:
        text = "a broker answers, but not this host's: the proxy leads to another one"
        return problem(text, look_into_proxy(situation))
    seen = answer.arrivals[0].target.rpartition("/")[0] + "/"
    text = f'requests arrive under the path "{seen}"; the proxy must leave "{look.path}" as it is, or make "/" of it'
    return problem(text, look_into_proxy(situation))


def _not_ours(reply: Reply, look: PageLook, see: str, situation: Situation) -> Finding:
    location = reply.header("location")
    if 300 <= reply.status < 400 and location:
        if location.startswith("http://"):
            return problem("proxy: redirects https:// to http://; redirects like that go round in circles", see)
        if location.startswith((look.url, "/")):
            return problem(f"proxy: redirects the page to itself ({reply.status}): a loop", see)
    if reply.status in (502, 503, 504) and look.absent:
        text = "a proxy answers; what is behind it can be seen when your broker runs, as while a ring waits"
        return unknown(text, "unlatch ring")
    if reply.status in (502, 503, 504):
        see = situation.as_root("journalctl", "-n", "20", "-u", "caddy", "-u", "nginx")
    return problem(explain_status(reply.status), see)


def _worse(look: PageLook, found: Finding) -> Finding:
    """``probe = false`` says that this host cannot reach its own public address."""
    if look.probe:
        return found
    return unknown(f"{found.text}; probe = false says that it is this host only", "unlatch ring")


PAGE = Check(
    "page",
    "every address that DNS has for `public_url` gives the page: this broker's, unchanged, also compressed; nobody is "
    "rung for it and no link is spent. It cannot see a firewall before this host: for that, `unlatch ring` and a phone "
    "outside your network",
    "the printed `curl` shows what answers instead; compare path and socket in the proxy's file with `unlatch.toml`",
    PageLook,
    page_look,
    judge,
)
