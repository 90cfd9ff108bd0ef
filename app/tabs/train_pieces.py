"""What the Train tab says, as HTML: a recipe's values, its command, how a run is going. No gradio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.recipes import command_line
from app.rows.training import SMOOTHED_OVER, held_out, perplexity, running_mean, seconds_left, step_seconds
from app.tabs.pieces import bar
from app.text import at_home, duration_words, escape, number_words, plural, wait_words
from app.training_runs import Run

NOT_ALLOWED = (
    '<div class="ml-empty"><strong>This app does not let visitors train.</strong> Training runs on the machine that '
    "serves this page; its owner can start the app with <code>--allow-changes on</code>. On a machine of your own: "
    "<code>python -m training list</code>.</div>"
)
ASKING_FOR_RECIPES = (
    '<p class="ml-line" role="status">Asking the training program for its recipes, which takes some seconds ...</p>'
)
NO_RUN = (
    '<div class="ml-empty"><strong>No run is chosen.</strong> Choose a recipe and press Start. "tiny" takes a '
    "minute on an idle machine and shows whether everything is in place. A run goes on when this page, or the app, is "
    "closed.</div>"
)
NO_COMMAND = '<p class="ml-note">There is none yet: something above is not right, as said below.</p>'
NOT_YET = "Nothing was printed yet."
STATES = {
    "starting": "Starting: reading documents and embedding them, before the first step",
    "running": "Training",
    "stopping": "Stopping after the step at hand; checkpoint and export are written",
    "done": "Done",
    "stopped": "Stopped. Resume goes on from the checkpoint",
    "failed": "Ended before its last step. Its last word is below; Resume goes on from the last checkpoint",
}
BEFORE_A_STEP = {
    "stopped": "Stopped before the first step. Resume begins anew",
    "failed": "Ended before the first step. Its last word is below; Resume begins anew",
}


def values_table(values: Mapping[str, Any], changed: Sequence[str] = ()) -> str:
    """Return every value of a recipe as a list, with the changed ones marked."""
    rows = []
    for name, value in values.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        mark = ' class="ms-changed"' if name in changed else ""
        rows.append(f"<dt{mark}>{escape(name)}</dt><dd{mark}>{escape(at_home(text) or 'as the preset says')}</dd>")
    return f'<dl class="ms-facts ms-values" tabindex="0" role="group" aria-label="Values">{"".join(rows)}</dl>'


def command_box(command: Sequence[str]) -> str:
    """Return a command as a terminal takes it."""
    return f'<pre class="ms-pre" tabindex="0" aria-label="Command">{escape(command_line(command))}</pre>'


def state(run: Run | None) -> str:
    """Return how a run is going: what it does, how far it is, how fast, how long it will take."""
    if run is None:
        return NO_RUN
    kind = "ms-bad" if run.state == "failed" else ""
    words = STATES[run.state] if run.steps else BEFORE_A_STEP.get(run.state, STATES[run.state])
    said = f'<p class="ml-line {kind}" role="status"><strong>{escape(words)}</strong></p>'
    if run.state == "failed" and run.log.strip():
        said += f'<p class="ml-note">{escape(at_home(run.log.strip().splitlines()[-1][-600:]))}</p>'
    if not run.steps:
        return said
    last, mean = run.steps[-1], running_mean([step.loss for step in run.steps])[-1]
    seconds, left, judged = step_seconds(run.steps), seconds_left(run.steps), held_out(run.steps)
    facts = [
        f"<b>{number_words(last.step)}</b> of {plural(last.steps, 'step')}",
        f"loss <b>{mean:.3f}</b> (mean of {min(SMOOTHED_OVER, len(run.steps))})",
    ]
    if judged:
        loss = judged[-1].held_out or 0.0
        facts.append(f"held out <b>{loss:.3f}</b>, perplexity <b>{perplexity(loss):.2f}</b>")
        if judged[-1].recall is not None:
            facts.append(f"the right chunk was retrieved for <b>{judged[-1].recall:.0%}</b>")
    facts.append(f"{plural(last.documents, 'document')} read")
    if seconds:
        facts.append(pace(seconds))
    if run.alive and left:
        facts.append(f"<b>{wait_words(left)}</b> left")
    done = f"{last.step} of {last.steps} steps"
    spans = "".join(f"<span>{fact}</span>" for fact in facts)
    return f'{said}{bar(last.step / max(last.steps, 1), done)}<p class="ml-facts">{spans}</p>'


def pace(seconds: float) -> str:
    """Return seconds a step as people say it: the larger of steps a second and seconds a step."""
    return f"{1 / seconds:.1f} steps/s" if seconds < 1 else f"{duration_words(seconds)} a step"


def log_box(run: Run | None, lines: int = 40) -> str:
    """Return the end of what a run printed; of a progress bar only how it was last."""
    printed = run.log.rstrip().split("\n")[-lines:] if run else []
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in printed)
    # The inner box is shown from its end on.
    shown = escape(at_home(text) or NOT_YET)
    return f'<pre class="ms-pre ms-log" tabindex="0" aria-label="Log"><code>{shown}</code></pre>'
