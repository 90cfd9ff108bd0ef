"""The evidence of an answer, and the passage in its document, as HTML. Everything is escaped; no gradio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from app import asking
from app.missed import may_have_missed, missed
from app.rows.words import mass_words
from app.sessions import Exchange, Missed, Visit
from app.tabs.pieces import asked_first, button, error_box
from app.text import chunk_number, duration_words, escape, escape_lines, number_words, one_line, plural
from memlong.errors import MemLongError

if TYPE_CHECKING:
    from memlong.session.results import Evidence

Range = tuple[int, int]
_WORD = re.compile(r"\w+")
# Letters of alphabets that put blanks between words and glue nothing to them: Latin, Greek, Cyrillic.
_LETTER = "[A-Za-z0-9\u00c0-\u024f\u0370-\u052f]"
SNIPPET = 180  # characters of a chunk in the list
LEAST_MASS = 0.01  # share of attention of a full bar at least: of next to none the largest is no long one
_MUCH = 0.1  # share of attention that nobody calls little, whatever the memory's own threshold
AROUND = 1_500  # characters shown on each side of a passage, and by how many it grows


def evidence(visit: Visit | None) -> str:
    """Return the evidence of the chosen answer, with buttons for the other answers; or what will be here."""
    found = asking.chosen(visit) if visit else None
    if visit is None or found is None:
        return (
            '<div class="ml-empty"><strong>Evidence appears here.</strong> Beside each answer: the chunks that were '
            "retrieved for it, how much attention they got, and how often they have been found before.</div>"
        )
    index, exchange = found
    # What the newest answer lacks is said below the conversation already.
    said = "" if index == len(visit.exchanges) - 1 else notices(exchange)
    return _answers(visit, index) + said + _figures(exchange) + _gone(visit, index) + _list(exchange, index)


def _answers(visit: Visit, chosen: int) -> str:
    if len(visit.exchanges) < 2:
        return ""
    buttons = "".join(
        button(
            str(index + 1),
            "answer",
            index,
            style="ml-strong" if index == chosen else "",
            label=f"Evidence of answer {index + 1}",
        )
        for index in range(len(visit.exchanges))
    )
    question = escape(one_line(visit.exchanges[chosen].question, 120))
    return f'<nav class="ml-answers" aria-label="Answers">Answer {buttons}</nav><p class="ml-asked">{question}</p>'


def notices(exchange: Exchange) -> str:
    """Return what a reader should know about an answer before trusting it."""
    answer, said, quiet = exchange.answer, [], ""
    if exchange.cut:
        return '<p class="ml-line" role="status">The page was closed before this answer ended; ask again.</p>'
    if answer is None:
        return ""
    if answer.low_evidence:
        looked = answer.memory_mass is not None and answer.memory_mass >= _MUCH
        why = "No chunk matched the question well" + ("." if looked else ", or memory got little attention.")
        said.append(f"<strong>The text may not contain the answer.</strong> {why}")
        if exchange.options is not None and exchange.options.memory_strength < 0:
            said[-1] += (
                f" It was asked with a memory strength of {exchange.options.memory_strength:g}: at 0, under <em>How to "
                "answer</em>, memory gets all the attention it calls for."
            )
        if (gone := answer.chunks_read - answer.chunks_kept) > 0:
            said[-1] += (
                f" Or it has left: {plural(gone, 'chunk')} of {number_words(answer.chunks_read)} did. On the tab Lab, "
                "<em>What if</em> brings the likeliest of them back for this question."
            )
    if answer.reading:
        said.append(f"<strong>Asked before reading was done.</strong> {escape(answer.reading)}.")
    if answer.stop_reason == "length":
        quiet = (
            f"Cut at {plural(answer.n_tokens, 'token')}: raise <em>Length</em> under <em>How to answer</em> for more."
        )
    elif answer.stopped_in_steps:
        quiet = "You stopped this question in its steps; ask again for its answer."
    elif answer.stop_reason == "cancelled":
        quiet = "You stopped this answer; ask again for the rest."
    notices = "".join(f'<p class="ml-notice" role="status">{text}</p>' for text in said)
    return notices + (f'<p class="ml-line" role="status">{quiet}</p>' if quiet else "")


def _figures(exchange: Exchange) -> str:
    answer = exchange.answer
    if answer is None:
        return ""
    seconds = sum(answer.seconds.values())
    mass = "" if answer.memory_mass is None else f"<span>{answer.memory_mass:.0%} of attention on memory</span>"
    written = "stopped after" if answer.stopped_in_steps else f"{plural(answer.n_tokens, 'token')} in"
    from_words = {"memory": "from memory", "passages": "from passages", "both": "from memory and passages"}
    return (
        f'<p class="ml-facts"><span>{from_words.get(answer.answer_from, "from the model alone")}</span>{mass}'
        f"<span>{written} {duration_words(seconds)}</span>"
        f"<span>{number_words(answer.chunks_kept)} of {plural(answer.chunks_read, 'chunk')} in memory</span></p>"
    )


def _gone(visit: Visit, index: int) -> str:
    """Return whether chunks that had left would have been fetched: a button, or what came of it."""
    exchange = visit.exchanges[index]
    if exchange.looking:
        return '<p class="ml-line" role="status">Looking among the chunks that left ...</p>'
    if exchange.missed is None:
        words = "Did a better chunk leave?"
        return f'<p class="ml-gone">{button(words, "missed", index)}</p>' if may_have_missed(visit, index) else ""
    if not exchange.missed:
        return '<p class="ml-line" role="status">No chunk that had left would have been fetched for this question.</p>'
    rows = "".join(
        f"<div><span>chunk {chunk_number(each.chunk_id)}{f' · {escape(each.place)}' if each.place else ''} · "
        f"would have been number {each.rank}{_missing_for(each)}, score <b>{each.score:.2f}</b></span>"
        f"{button('Its life', 'life', each.chunk_id, label=f'Life of chunk {chunk_number(each.chunk_id)}')}</div>"
        for each in exchange.missed
    )
    return f'<div class="ml-notice" role="status">{_what_left(exchange.missed)}{rows}</div>'


def _missing_for(one: Missed) -> str:
    return f" for <q>{escape(one_line(one.question, 120))}</q>" if one.question else ""


def _what_left(missed: Sequence[Missed]) -> str:
    """Return what to make of chunks that had left and would have been fetched, of which some may answer, or none."""
    if not any(each.likely for each in missed):
        return (
            "<strong>Nothing that had left matches this question well.</strong> "
            f"{'This' if len(missed) == 1 else 'These'} would have been fetched only for want of better."
        )
    best = missed[0].rank == 1 and missed[0].likely
    what = "The best match had left memory" if best else "This had left memory"
    return (
        f"<strong>{what},</strong> and would have been fetched for this question. Its life says why it left; bring it "
        "back there, and ask again."
    )


def among_gone(visit: Visit) -> str:
    """Work out what was asked for by "missed"; returns the evidence, or "" where nobody asked."""
    for index, exchange in enumerate(visit.exchanges):
        if exchange.looking == "asked":
            said, exchange.looking = "", "working"  # whatever else is clicked meanwhile does not begin it again
            try:
                exchange.missed = missed(visit, index)
            except MemLongError as error:
                said = error_box(error)
            finally:
                exchange.looking = ""
            return said + evidence(visit)
    return ""


def _list(exchange: Exchange, index: int) -> str:
    if not exchange.evidence:
        ended = exchange.answer or exchange.error or exchange.cut
        words = "Nothing was retrieved for this answer." if ended else "Searching memory ..."
        return f'<p class="ml-empty">{words}</p>'
    steps = exchange.answer.steps if exchange.answer else ()
    own = exchange.answer.retrieved if exchange.answer else exchange.evidence
    listed = _rows(own, exchange, (index, 0), "Retrieved chunks") if own else ""
    for number, step in enumerate(steps, 1):
        listed += f'<p class="ml-step">{asked_first(step.question, step.text)}</p>'
        # What a chunk of a step says is what the step asked and found.
        of_step = replace(exchange, question=step.question, text=step.text)
        listed += _rows(step.retrieved, of_step, (index, number), f"Chunks retrieved for step {number}")
    asked = escape(one_line(exchange.asked if steps else exchange.reworded, 200))
    then = "Asked last" if steps else "Asked as"
    return (f'<p class="ml-step">{then}: <q>{asked}</q></p>' if asked else "") + listed


def _rows(items: Sequence[Evidence], exchange: Exchange, of: tuple[int, int], label: str) -> str:
    most = max((item.attention_mass or 0.0 for item in items), default=0.0)
    rows = "".join(_row(item, of, most, exchange) for item in items)
    return f'<ol class="ml-evidence" aria-label="{label}">{rows}</ol>'


def snippet(text: str, answer: str, question: str, said: Range | None = None) -> str:
    """Return the part of a chunk that has most to do with an answer, as HTML with the answer's own words marked.

    The beginning of a chunk says nothing: chunks begin anywhere.

    Args:
        said: characters that are the answer's words, where that is known; None looks for them.
    """
    if said:
        before, own = " ".join(text[: said[0]].split()), " ".join(text[slice(*said)].split())
        start = len(before) + bool(before and text[said[0] - 1].isspace())
        said = start, start + len(own)
    text = " ".join(text.split())
    if said := said or words_of(answer, text):
        at, behind = said
    else:
        wanted = {word for word in _WORD.findall(f"{answer} {question}".casefold()) if len(word) > 3}
        places = [word.start() for word in _WORD.finditer(text.casefold()) if word[0] in wanted]
        if not places:
            return escape(one_line(text, SNIPPET))
        at = behind = max(places, key=lambda start: (sum(start <= each < start + SNIPPET for each in places), -start))
    start = max(0, min(at - (SNIPPET - (behind - at)) // 3, len(text) - SNIPPET))
    start = text.find(" ", start) + 1 if 0 < start < at else start
    end = max(start + SNIPPET, behind)
    end = text.rfind(" ", behind, end) if end < len(text) and " " in text[behind:end] else end
    before, own, after = text[start:at], text[at:behind], text[behind:end]
    marked = f"<mark>{escape(own)}</mark>" if own else ""
    return f"{'… ' if start else ''}{escape(before)}{marked}{escape(after)}{' …' if end < len(text) else ''}"


def _row(item: Evidence, of: tuple[int, int], most: float, exchange: Exchange) -> str:
    place = f" · {escape(item.place)}" if item.place else ""
    mass = mass_words(item.attention_mass) or "not measured"
    width = 100 * (item.attention_mass or 0.0) / max(most, LEAST_MASS)
    tag = '<span class="ml-tag">most attention</span>' if item.attention_mass == most >= LEAST_MASS / 10 else ""
    said = said_in(item, exchange.text)
    if exchange.answer is not None and said:
        tag += '<span class="ml-tag">says the same words</span>'
    if best := item.points_at:
        why = f"The retriever holds “{one_line(best.text, 80)}” here to be the answer, {best.likely:.0%} sure."
        tag += f'<span class="ml-tag" title="{escape(why)}">pointed at, {best.likely:.0%}</span>'
    if item.superseded:
        why = "A later chunk answers as surely, and the last telling counts."
        tag += f'<span class="ml-tag" title="{why}">told anew later</span>'
    return (
        f'<li><button type="button" class="ml-hit" data-act="open" data-id="{item.chunk_id}" data-of="{_of(of)}" '
        f'data-chunk="{item.chunk_id}" aria-label="Open passage {item.rank} in its document">'
        f'<span class="ml-rank">{item.rank}</span><span class="ml-source">{escape(item.title)}{place}{tag}</span>'
        f'<span class="ml-snippet">{snippet(item.text, exchange.text, exchange.question, said)}</span>'
        f'<span class="ml-measures"><span>score <b class="ml-score">{item.score:.2f}</b></span>'
        f'<span>attention <b class="ml-mass">{mass}</b></span>'
        f'<span>triggers <b class="ml-triggers">{item.trigger_count_before} → {item.trigger_count}</b></span>'
        f"<span>chunk {chunk_number(item.chunk_id)}</span></span>"
        f'<span class="ml-bar" aria-hidden="true"><i class="ml-memory" style="width:{width:.1f}%"></i></span>'
        "</button></li>"
    )


def _of(of: tuple[int, int], around: int = AROUND) -> str:
    """Return whose passage a button opens, and how much of it: an exchange, characters, and a step of it, or 0."""
    return f"{of[0]}/{around}/{of[1]}"


def passage(item: Evidence, text: str, around: int = AROUND, of: tuple[int, int] = (0, 0), answer: str = "") -> str:
    """Return the passage of a chunk highlighted in its document, ``around`` characters of context on each side.

    Args:
        text: the whole document; "" when it was removed (then the chunk alone is shown).
        of: the exchange that it is evidence of, and the step that fetched it, from 1; 0 for the question itself.
        answer: where the chunk says these words they stand out.
    """
    place = f" · {escape(item.place)}" if item.place else ""
    start, end = item.span if text else (0, len(item.text))
    text = text or item.text
    first, last = max(0, start - around), min(len(text), end + around)
    earlier = button("Show more before", "more", item.chunk_id, _of(of, around + AROUND)) if first else ""
    later = button("Show more after", "more", item.chunk_id, _of(of, around + AROUND)) if last < len(text) else ""
    said = said_in(item, answer)
    own = [start + at for at in said] if said else [start, start]
    marked = escape_lines(text[start : own[0]])
    marked += f'<strong class="ml-own">{escape_lines(text[own[0] : own[1]])}</strong>' if said else ""
    marked += escape_lines(text[own[1] : end])
    leads = button("Its life", "life", item.chunk_id, label=f"Life of chunk {chunk_number(item.chunk_id)}")
    leads += button("Which layers looked", "layers", *of) if item.attention_mass is not None else ""
    return (
        f'<section class="ml-passage" aria-label="Passage in its document"><header><h3>{escape(item.title)}{place}</h3>'
        f"<span>characters {number_words(start)} to {number_words(end)} of {number_words(len(text))}, "
        f"chunk {chunk_number(item.chunk_id)}</span>"
        f'<nav class="ml-leads" aria-label="More about this chunk">{leads}{button("Close", "close")}</nav></header>'
        f'<div class="ml-paper" tabindex="0">{earlier}<p>{"…" if first else ""}{escape_lines(text[first:start])}'
        f'<mark id="passage">{marked}</mark>{escape_lines(text[end:last])}'
        f"{'…' if last < len(text) else ''}</p>{later}</div></section>"
    )


def said_in(item: Evidence, answer: str) -> Range | None:
    """Return where in its text a chunk says an answer in its own words: where they are pointed at, if that is so."""
    for place in item.pointed:
        if place.text.strip().casefold() == answer.strip(" .").casefold():
            return place.span[0] - item.span[0], place.span[1] - item.span[0]
    return words_of(answer, item.text)


def words_of(answer: str, text: str) -> tuple[int, int] | None:
    """Return where a text says an answer in its own words, whatever lies between them; None when it does not."""
    words = answer.strip(" .,;:!?\"'").split()
    if sum(map(len, words)) < 3:
        return None
    # No part of a longer word: "ten" is not said in "often". Alphabets that put no blanks between words are left alone.
    said = r"\s+".join(map(re.escape, words))
    found = re.search(rf"(?<!{_LETTER})(?:{said})(?!{_LETTER})", text, re.IGNORECASE)
    return found.span() if found else None


def no_passage() -> str:
    """Return what the reader pane says before a passage is opened."""
    return '<p class="ml-empty">Choose a chunk to read it in its document.</p>'
