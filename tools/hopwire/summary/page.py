"""What a recording tells, as one page of HTML that needs nothing else. Pure; whatever came from a peer is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from hopwire.escaping import printable

from .analysis import Analysis
from .as_text import text_lines
from .drawing import COLOURS, timeline, while_frozen
from .sessions import SessionSummary, moments_of

SESSIONS_DRAWN_MAX = 20

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #27272a }
figure { margin: 1rem 0 2rem }
figcaption { font-size: 13px; color: #52525b }
svg { width: 100%; height: auto }
pre { font-size: 12.5px; overflow-x: auto; background: #fafafa; padding: 1rem; border: 1px solid #e4e4e7 }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
</style></head><body>
BODY
</body></html>
"""


def html_page(analysis: Analysis, name: str) -> str:
    """The page; ``name`` is that of the recording."""
    title = escape(f"hopwire: {printable(name)}")
    drawn = [session for session in analysis.sessions.values() if session.streams or session.milestones]
    body = [f"<h1>{title}</h1>", _key()]
    for session in drawn[:SESSIONS_DRAWN_MAX]:
        body += _session(session, analysis.frozen)
    if len(drawn) > SESSIONS_DRAWN_MAX:
        body.append(f"<p>{len(drawn) - SESSIONS_DRAWN_MAX} more sessions are not drawn.</p>")
    body.append("<h2>In figures</h2><pre>" + escape("\n".join(text_lines(analysis))) + "</pre>")
    return _PAGE.replace("TITLE", title).replace("BODY", "\n".join(body))


def _key() -> str:
    kinds = "".join(f'<span style="background:{colour}"></span>{escape(kind)}' for kind, colour in COLOURS.items())
    return f'<p class="key">Streams:{kinds}<span style="background:#bae6fd"></span>frozen</p>'


def _session(session: SessionSummary, frozen: Mapping[str, int]) -> Iterator[str]:
    moments = moments_of(session, frozen)
    number = "Without a session" if session.number is None else f"Session {session.number}"
    peers = f": {printable(session.dialer)} to {printable(session.acceptor)}" if session.dialer else ""
    yield f"<h2>{escape(number + peers)}</h2>"
    yield _figure(timeline(session, moments), "The whole session, from its first frame.")
    if part := while_frozen(session, moments):
        yield _figure(part, "From the freeze to STARTED.")


def _figure(picture: str, caption: str) -> str:
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"
