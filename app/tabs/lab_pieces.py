"""Results of experiments as HTML and rows for pictures. All text of people and documents is escaped; no gradio."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np

from app.lab import Ways, places_of
from app.plots import lab as plots
from app.replaying import PolicyResult
from app.rows.chunks import RULES
from app.rows.words import mass_words
from app.sessions import Visit
from app.tabs.pieces import asked_first, bar
from app.text import chunk_number, escape, escape_lines, number_words, one_line, plural
from app.what_if import Changed, Owed

if TYPE_CHECKING:
    from memlong.evaluation.counterfactual import Counterfactual
    from memlong.session.results import Answer, Evidence

WAYS = {
    "memory": ("From memory", "K-V of the retrieved chunks"),
    "passages": ("From passages", "their text in the prompt"),
    "both": ("From both", "K-V and text"),
    "nothing": ("From nothing", "the model alone"),
}
HEADING = "Experiments on what was read"
ABOUT = "One runs at a time, and your memory, its counts and the conversation stay as they are."
CHANGE = (
    "Ask the same question again with other chunks: leave some out, put others in, or bring back some that had left. "
    "This answer alone is given them; 'Pin these in memory' changes your memory itself."
)
EMPTY = {
    "ways": "When something is read (on the tab Read), ask a question about it here, and see if memory helped at all.",
    "policies": "Ask some questions on the tab Ask of what was read, and replay: no model runs, so it takes a moment.",
    "needle": "When something is read (on the tab Read), hide a sentence in it, and see if it is kept, found and told.",
    "owed": "Ask a question on the tab Ask, choose it here, and see which chunk its answer needed.",
}
ASIDE = ("Evicted", "Missed most")  # columns that a phone leaves out
MISSED = "Missed most: chunks asked for after they had left, and how often."
NARROW = "A wider screen also shows how many chunks were evicted, and which were missed most."
STOPPED = "Stopped. What was found until then stays."
UNSURE = "But no chunk matched the question well, so what memory says may be wrong: look at the evidence."
ALIKE = 0.02  # nats; two numbers this near are one, rounded otherwise
ALL_OF_IT = "all of memory"
MOVED = 0.5  # nats; less than that is no more than a turn of phrase


def empty(what: str) -> str:
    """Return what to do to fill a result."""
    return f'<div class="ml-empty">{escape(EMPTY[what])}</div>'


def note(words: str) -> str:
    """Return one line about what came of something."""
    return f'<p class="ml-line lab-said" role="status">{escape(words)}</p>'


def conclude(words: str) -> str:
    """Return what an experiment found, in words that stand out."""
    return f'<p class="ml-line lab-said lab-found" role="status">{escape(words)}</p>'


def four(found: Ways, stopped: bool = False) -> str:
    """Return what was found, and the answers side by side."""
    cards = []
    for way, (title, how) in WAYS.items():
        item = found.answers.get(way)
        text = item if isinstance(item, str) else item.text if item is not None else ""
        waiting = "stopped" if stopped else "waiting" if item is None else "being answered"
        facts = f"<span>{waiting}</span>" if item is None or isinstance(item, str) else _facts(item)
        said = escape_lines(text.strip()) or "&hellip;"
        cards.append(
            f'<article class="lab-card"><h4>{escape(title)}</h4><p class="ml-note-plain">{escape(how)}</p>'
            f'{_steps(found.steps.get(way, ()))}<p class="mm-said">{said}</p><p class="ml-facts">{facts}</p>'
            f"{_evidence(item)}</article>"
        )
    said = note(STOPPED) if stopped else helped(found)
    return f'{said}<h3 class="ml-h2">The answers side by side</h3><div class="lab-four">{"".join(cards)}</div>'


def _steps(steps: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<p class="ml-step">{asked_first(*step)}</p>' for step in steps)


def helped(found: Ways) -> str:
    """Return in plain words whether memory helped, or that it is being found out."""
    if found.with_memory is None or found.without is None:
        return note("Asking: from memory, from passages, from both, from nothing.")
    moved, told = found.with_memory - found.without, found.answers
    same = _words(told["memory"]) == _words(told["nothing"])
    recorded = getattr(told["memory"], "logprob", found.with_memory)
    alike = abs(found.with_memory - recorded) <= ALIKE
    numbers = (
        f"({'' if alike else 'weighed anew: '}log-probability {recorded if alike else found.with_memory:.2f} with "
        f"its chunks, {found.without:.2f} without any)"
    )
    alone = "Without memory the model says the same" if same else "Without memory the model says something else"
    if moved > MOVED:
        words = f"Memory decided: its answer is {_times(moved)} more likely with it {numbers}. {alone}."
        unsure = getattr(told["memory"], "low_evidence", False)
        return conclude(words) + (note(UNSURE) if unsure else "")
    if moved < -MOVED:
        return conclude(f"Memory spoke against this answer: it is {_times(-moved)} less likely with it {numbers}.")
    return conclude(f"Memory made no difference: its answer is as likely without it {numbers}. {alone}.")


def _words(answer: Any) -> str:
    return " ".join(answer.text.casefold().split()).rstrip(".")


def _times(nats: float) -> str:
    if nats > 13.8:
        return "over a million times"
    times = exp(nats)
    return f"{times:.1f} times" if times < 10 else f"{float(f'{times:.2g}'):,.0f} times"


def _evidence(item: Any) -> str:
    """Return what an answer and its steps were given, folded away: documents, places and beginnings of chunks."""
    if item is None or isinstance(item, str) or not item.evidence:
        return ""
    listed = _chunks(item.retrieved)
    for number, step in enumerate(item.steps, 1):
        listed += f'<p class="ml-line">For step {number}:</p>{_chunks(step.retrieved)}'
    return f'<details class="lab-evidence"><summary>Evidence</summary>{listed}</details>'


def _chunks(found: Sequence[Evidence]) -> str:
    lines = "".join(
        f"<li><b>chunk {chunk_number(each.chunk_id)}</b> {escape(one_line(each.place or each.title, 60))}, "
        f"score {each.score:.2f}: {escape(one_line(each.text, 140))}</li>"
        for each in found
    )
    return f'<ul class="lab-list">{lines}</ul>'


def _facts(answer: Any) -> str:
    each = answer.logprob / max(1, answer.n_tokens)
    facts = [
        f"{sum(answer.seconds.values()):.1f} s",
        plural(answer.n_tokens, "token"),
        f"log-probability {answer.logprob:.2f} ({each:.2f} a token)",
    ]
    if answer.retrieved:
        facts.append("chunks " + ", ".join(str(chunk_number(item.chunk_id)) for item in answer.retrieved))
    if answer.memory_mass is not None:
        facts.append(f"{mass_words(answer.memory_mass)} of attention on memory")
    return " ".join(f"<span>{escape(fact)}</span>" for fact in facts)


def progress(share: float, words: str) -> str:
    """Return how far an experiment is."""
    return f'<div class="ml-line lab-said" role="status">{escape(words)} ({share:.0%}){bar(share, words)}</div>'


def policies(result: PolicyResult) -> list[Any]:
    """Return what replaying found: a sentence, recall by capacity, its course at the smallest one, and a table."""
    said = conclude(result.words) if result.share >= 1 else note(STOPPED)
    if not result.rows:
        return [said, plots.recall_by_capacity([]), plots.recall_over_time([]), ""]
    points = [(row.policy, 100 * row.capacity_tokens / result.tokens, 100 * row.recall) for row in result.rows]
    smallest = min(row.capacity_tokens for row in result.rows)
    here = [row for row in result.rows if row.capacity_tokens == smallest]
    curves = [(row.policy, [(at, 100 * share) for at, share in row.curve]) for row in here]
    return [
        said + _judged(result),
        plots.recall_by_capacity(points),
        plots.recall_over_time(curves, f", with {smallest:,} tokens"),
        _table(result),
    ]


def _judged(result: PolicyResult) -> str:
    """Return what the conclusion stands on."""
    asked = plural(result.questions, "question") if result.questions else "no question"
    words = f"Replayed: {plural(result.tokens, 'token')} read and {asked} asked. "
    if result.rows[0].by_questions:
        return note(words + "Policies are judged by what the questions would have fetched.")
    return note(
        words + "Too few questions to judge by, so policies are judged by what each chunk of the text would have "
        "fetched while it was read; ask some more, and replay again."
    )


def _table(result: PolicyResult) -> str:
    names = ("Policy", "Capacity (tokens)", "Evicted", "Held, reading", "Held, questions", "Regret", "Missed most")
    head = "".join(f'<th scope="col"{_aside(name)}>{name}</th>' for name in names)
    rows = []
    for row in sorted(result.rows, key=lambda row: (row.capacity_tokens, -row.recall)):
        policy = escape(row.policy).replace("_", "_<wbr>") + (" (yours)" if row.policy == result.used else "")
        missed = (
            ", ".join(f"{chunk_number(chunk_id)} ({times}x)" for chunk_id, times in list(row.missed.items())[:3])
            or "none"
        )
        cells = (
            policy, number_words(row.capacity_tokens) + (" (yours)" if row.capacity_tokens == result.capacity else ""),
            number_words(row.evicted), _percent(row.recall_reading),
            _percent(row.recall_questions), _percent(1 - row.recall), missed,
        )  # fmt: skip
        told = (f"<td{_aside(name)}>{cell}</td>" for name, cell in zip(names, cells, strict=True))
        rows.append(f"<tr>{''.join(told)}</tr>")
    words = (
        "Held: of the chunks that a bank without limits would have fetched, the share that was still there. Regret: "
        "the share that was not."
    )
    rules = "".join(f"<li><b>{escape(name)}</b> {escape(RULES.get(name, ''))}</li>" for name in _policies_of(result))
    return (
        f'<div class="lab-scroll" tabindex="0" role="region" aria-label="All replays"><table class="lab-table">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="mm-how-plot">{escape(words)}<span class="lab-aside"> {escape(MISSED)}</span>'
        f'<span class="lab-narrow"> {escape(NARROW)}</span></p>'
        f'<details class="lab-evidence"><summary>What the policies do</summary><ul class="lab-list">{rules}</ul>'
        "</details>"
    )


def _aside(name: str) -> str:
    """Return the class of a column that a phone has no room for."""
    return ' class="lab-aside"' if name in ASIDE else ""


def _policies_of(result: PolicyResult) -> list[str]:
    return list(dict.fromkeys(row.policy for row in result.rows))


def _percent(share: float | None) -> str:
    return "none asked" if share is None else f"{share:.0%}"


def needle(step: Any, stopped: bool = False) -> tuple[str, Any, str]:
    """Return what became of the needle, its grid, and the answers given."""
    from memlong.evaluation.needle import OUTCOMES

    depths, capacities = places_of(step.tries)
    grid = np.full((len(capacities), len(depths)), np.nan)
    for each in step.tries:
        at = capacities.index(each.capacity_tokens), depths.index(each.depth)
        grid[at] = OUTCOMES.index(each.outcome)
    items = "".join(
        f"<li>depth {each.depth:.0%}, {number_words(each.capacity_tokens)} tokens: <b>{escape(each.outcome)}</b>, "
        f"“{escape(one_line(each.answer, 160))}”</li>"
        for each in step.tries
    )
    said = note(STOPPED) if stopped else progress(step.share, step.words)
    if step.share >= 1 and not stopped:
        said = conclude(_fate([each.outcome for each in step.tries]))
    tries = f'<ul class="lab-list">{items}</ul>' if items else ""
    return said, plots.needle_grid([100 * depth for depth in depths], capacities, grid), tries


def _fate(outcomes: Sequence[str]) -> str:
    """Return in plain words where needles were lost."""
    answered, silent, overlooked, evicted = (outcomes.count(each) for each in _outcomes())
    words = f"{answered} of {plural(len(outcomes), 'place')} answered rightly."
    lost = [
        (evicted, "evicted before the question came: a larger bank or another policy would help"),
        (overlooked, "held but not found: the retriever overlooked it"),
        (silent, "found but not said: the model did not use it"),
    ]
    return " ".join([words, *(f"{count} {what}." for count, what in lost if count)])


def _outcomes() -> tuple[str, ...]:
    from memlong.evaluation.needle import OUTCOMES

    return OUTCOMES


def owed(parts: Owed, answer: Any = None, stopped: bool = False) -> tuple[str, Any]:
    """Return what an answer owes to each chunk, in words and as a picture; its steps with it.

    Args:
        parts: what was weighed so far. answer: as its card tells it.
    """
    if not parts or not parts[0]:
        return note(STOPPED) if stopped else empty("owed"), plots.owed_to_chunks([])
    rows, whole = parts[0], parts[0][0].logprob
    moves = _moves(rows)
    recorded = whole if answer is None else answer.logprob
    gone = 0 if answer is None else len(answer.retrieved) - len(rows[0].chunk_ids)
    words = f"{_weighed('the answer', whole, recorded, gone)}."
    chunks = [move for move in moves if move[0] != ALL_OF_IT]
    if chunks and chunks[0][1] < -MOVED:
        words += f" It needed {chunks[0][0]} most: without it the answer is {_times(-chunks[0][1])} less likely."
    elif moves and moves[0][1] < -MOVED:
        words += " No single chunk was needed, but memory as a whole was."
    elif moves:
        words += " None of its chunks was needed: the model gives this answer without them too."
    said = (note(STOPPED) if stopped else "") + conclude(words)
    for number, (step, weighed) in enumerate(zip(answer.steps if answer else (), parts[1:], strict=False), 1):
        said += "" if stopped and len(weighed) < 2 else _owed_first(step, weighed)
        moves += [(f"{name}, step {number}", move) for name, move in _moves(weighed) if name != ALL_OF_IT]
    return said, plots.owed_to_chunks(moves)


def _moves(rows: Sequence[Counterfactual]) -> list[tuple[str, float]]:
    """Return what was left out, and how much that moved an answer, most needed first."""
    names = [ALL_OF_IT if row.left_out is None else f"chunk {chunk_number(row.left_out)}" for row in rows[1:]]
    moves = [(name, row.logprob - rows[0].logprob) for name, row in zip(names, rows[1:], strict=True)]
    return sorted(moves, key=lambda move: move[1])


def _owed_first(step: Answer, rows: Sequence[Counterfactual]) -> str:
    """Return which chunk a step needed to find what stands in the question since."""
    moves = [move for move in _moves(rows) if move[0] != ALL_OF_IT]
    found = f"<b>{escape(one_line(step.text, 80))}</b>"
    if moves and moves[0][1] < -MOVED:
        words = f"needed {moves[0][0]} most: without it {found} is {_times(-moves[0][1])} less likely."
    else:
        words = f"found {found}, and no single chunk was needed for that." if moves else "is being weighed."
    return f'<p class="ml-step">What was asked first, <q>{escape(one_line(step.question, 160))}</q>, {words}</p>'


def _weighed(who: str, now: float, recorded: float, gone: int) -> str:
    """Return how likely an answer is with its own chunks, without contradicting what its card says.

    Args:
        now: with all of its chunks from its first token on. recorded: while it was written. gone: chunks that left.
    """
    if abs(now - recorded) <= ALIKE and not gone:
        return f"With its own chunks {who} has a log-probability of {recorded:.2f}"
    how = f"without {plural(gone, 'chunk')} that left memory since" if gone else "with all its chunks at once"
    return f"Weighed anew {how}, {who} has a log-probability of {now:.2f} ({recorded:.2f} while it was written)"


def moved(step: Changed) -> str:
    """Return how likely the earlier answer is with other chunks."""
    if step.before is None or step.after is None:
        return note("Asking again.")
    move = step.after - step.before
    recorded = step.before if step.recorded is None else step.recorded
    words = _weighed("the answer before", step.before, recorded, step.gone)
    asked = f", asked “{one_line(step.reworded, 160)}”," if step.reworded else ""
    words += f"; with the chunks it is given now{asked} it has {step.after:.2f}"
    if abs(move) <= MOVED:
        return conclude(words + ": nearly the same.")
    return conclude(words + f": {_times(abs(move))} {'more' if move > 0 else 'less'} likely.")


def answers(visit: Visit) -> list[tuple[str, int]]:
    """Return the conversation's answers from memory, newest first, as menu entries."""
    named = [
        (f"{number}. {one_line(exchange.question, 80)}", number - 1)
        for number, exchange in enumerate(visit.exchanges, start=1)
        if exchange.answer is not None and exchange.answer.retrieved
    ]
    return named[::-1]
