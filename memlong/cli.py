"""``python -m memlong ask | read | fit | replay``: the library without a page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlong.bank.eviction import POLICIES, make_policy
from memlong.bank.savefolder import require_writable
from memlong.books import Book, read_book
from memlong.config import ANSWER_FROM, PRESETS, AskOptions, MemoryConfig
from memlong.errors import ConfigError, MemLongError, PersistError

if TYPE_CHECKING:
    from memlong.model.wrapper import MemoryModel
    from memlong.session import Session
    from memlong.session.results import Evidence


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 2 for a refusal, 130 for an interrupt."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except MemLongError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def ask(chosen: argparse.Namespace) -> int:
    """Read a book (or load a saved session) and answer one question about it."""
    if len(chosen.words) != (1 if chosen.load else 2):
        raise ConfigError(
            f"{len(chosen.words)} texts{' and --load' if chosen.load else ''}",
            "Either BOOK and QUESTION, or QUESTION with --load DIR",
            'Write: ask BOOK "QUESTION", or ask --load DIR "QUESTION"',
        )
    from memlong.trace.events import Evicted

    # Before the model is loaded: a wrong path or number shall not cost half a minute.
    if not chosen.words[-1].strip():
        raise ConfigError("An empty question", "A question in words", 'Write it in quotes: "Who kept the key?"')
    options = AskOptions(answer_from=chosen.answer_from, top_k=chosen.top_k, max_tokens=chosen.max_tokens)
    book = None if chosen.load else _book(chosen.words[0])
    session = _session(chosen)
    if book:
        _read(session, book, quiet=chosen.json)
    answer = session.ask(chosen.words[-1], options)
    if chosen.trace:
        session.recorder.save_jsonl(chosen.trace)
    if chosen.json:
        evicted = [event.chunk_id for event in session.recorder.events if isinstance(event, Evicted)]
        print(_json(answer.to_dict() | {"evicted": evicted}))
        return 0
    for step in answer.steps:
        print(f"(Asked first: {step.question} {step.text})")
    print(answer.text)
    if answer.low_evidence:
        print("(The text may not contain the answer: little was found, or little attention was paid to it.)")
    for part in (answer, *answer.steps):  # each has ranks of its own
        if answer.steps:
            print(f"\nFound for {part.asked}")
        for item in part.retrieved:
            _print_evidence(item)
    return 0


def _print_evidence(item: Evidence) -> None:
    mass = "" if item.attention_mass is None else f", attention {item.attention_mass:.1%}"
    print(
        f"\n[{item.rank}] chunk {item.chunk_id + 1}  score {item.score:.3f}{mass}, "
        f"triggered {'once' if item.trigger_count == 1 else f'{item.trigger_count} times'}  "
        f"{' '.join(item.title.split())} {item.place}".rstrip()
    )
    print("    " + " ".join(item.text.split())[:300])
    if best := item.points_at:
        print(f"    pointed at: {' '.join(best.text.split())} ({best.likely:.0%})")


def read(chosen: argparse.Namespace) -> int:
    """Read a book and save the session."""
    book = _book(chosen.book)
    if not chosen.save.name:  # the folder we are in: a variable of the shell that is not set, most likely
        raise ConfigError(f"--save {chosen.save}", "A folder of its own, with a name", "Name one, such as saved")
    require_writable(chosen.save)
    session = _session(chosen)
    _read(session, book, quiet=chosen.json)
    session.save(chosen.save)
    if chosen.trace:
        session.recorder.save_jsonl(chosen.trace)
    report = session.report(0)
    if chosen.json:
        print(json.dumps(vars(report) | {"saved": str(chosen.save)}))
    else:
        print(
            f"{report.title}: {report.n_tokens:,} tokens, {report.chunks_kept} of {report.chunks_read} chunks kept, "
            f"{report.seconds:.0f} s; saved in {chosen.save}"
        )
        if report.too_long:
            print(f"{report.too_long} chunks had to be embedded in parts: the retriever takes less at once.")
    return 0


def fit(chosen: argparse.Namespace) -> int:
    """Fit the maps of a preset on texts, say how well they fit, and save them."""
    from memlong.fit import fit_maps, fit_report
    from memlong.model.part import write_part

    texts = [_book(path).text for path in chosen.texts]
    require_writable(Path(chosen.out))
    model = _model(chosen)
    maps, fits = fit_maps(model, texts, progress=_progress_line("Fitting"))
    print(fit_report(fits))
    write_part(Path(chosen.out), model.config, chosen.model, maps)
    print(f"Saved in {chosen.out}")
    return 0


def replay(chosen: argparse.Namespace) -> int:
    """Rebuild the bank at any step from a trace alone, and say what it held and what had left."""
    from memlong.bank.savefolder import SavedFolder
    from memlong.session.saving import TRACE
    from memlong.trace.recorder import Recorder
    from memlong.trace.replay import rebuild

    path: Path = chosen.trace
    recorder = Recorder.from_jsonl(SavedFolder(path).read(TRACE)) if path.is_dir() else Recorder.load_jsonl(path)
    last = recorder.step - 1
    if last < 0:
        do = "Write one with --trace, or name a saved folder"
        raise PersistError(f"{path} holds no event", "A trace, as JSONL", do)
    if chosen.step is not None and not 0 <= chosen.step <= last:
        raise ConfigError(f"Step {chosen.step}", f"0 to {last}", "Leave --step out for the last one")
    state = rebuild(recorder.events, chosen.step)
    if chosen.json:
        print(_json(state.to_dict() | {"steps": recorder.step}))
        return 0
    capacity = "" if state.capacity_tokens is None else f" of {state.capacity_tokens:,}, policy {state.policy}"
    print(f"Step {state.step} of 0 to {last}: {state.occupancy_tokens:,} tokens held{capacity}")
    for document in state.documents.values():
        print(f"{document.title}: {document.n_tokens:,} tokens, {document.n_chunks} chunks, {document.status}")
    print(f"{len(state.chunks)} chunks held, {len(state.evicted)} evicted, {len(state.deleted)} deleted")
    for chunk_id, chunk in state.chunks.items():
        pinned = ", pinned" if chunk.pinned else ""
        start, end = chunk.span
        print(f"  chunk {chunk_id + 1}: characters {start}-{end}, triggered {chunk.trigger_count}{pinned}")
    for chunk_id, departure in sorted((state.evicted | state.deleted).items()):
        print(f"  chunk {chunk_id + 1} left at step {departure.step}: {departure.rule}")
    return 0


def _session(chosen: argparse.Namespace) -> Session:
    from memlong.retriever import make_retriever, split_name
    from memlong.session import Session
    from memlong.session.saving import saved_config

    # Unknown names, and files that cannot be written, are refused before anything is loaded.
    if chosen.policy is not None:
        make_policy(chosen.policy)
    if chosen.trace is not None:
        require_writable(chosen.trace.absolute().parent)
        if chosen.trace.is_dir():
            raise ConfigError(f"--trace {chosen.trace} is a folder", "A file", "Name one in it, such as trace.jsonl")
    split_name(chosen.retriever)
    saved = saved_config(chosen.load) if getattr(chosen, "load", None) else None
    if saved is not None and chosen.chunk_tokens is None:
        chosen.chunk_tokens, chosen.window_tokens = saved.chunk_tokens, saved.window_tokens
    model, retriever = _model(chosen), make_retriever(chosen.retriever)
    if retriever.notice:
        print(retriever.notice, file=sys.stderr)
    if saved is None:
        return Session(model, retriever)
    session = Session.load(chosen.load, model, retriever)
    if chosen.policy is not None:
        session.set_policy(chosen.policy)
    if chosen.capacity_tokens is not None:
        session.set_capacity(chosen.capacity_tokens)
    return session


def _model(chosen: argparse.Namespace) -> MemoryModel:
    from memlong.model.load import load_model

    names = ("capacity_tokens", "policy", "chunk_tokens", "window_tokens", "store_dtype", "preset")
    given = {name: value for name in names if (value := getattr(chosen, name, None)) is not None}
    MemoryConfig.refuse(given)
    model = load_model(chosen.model, progress=_progress_line("Loading"))
    if "chunk_tokens" in given:
        given.setdefault("window_tokens", model.config.window_for(given["chunk_tokens"]))
    if "preset" in given and given["preset"] != model.config.preset:
        given |= {"stored_layers": (), "retrieval_layers": ()}
    return model.with_config(model.config.replace(**given)) if given else model


def _book(path: str) -> Book:
    book = read_book(Path(path))
    for warning in book.warnings:
        print(f"{path}: {warning}", file=sys.stderr)
    return book


def _read(session: Session, book: Book, quiet: bool) -> None:
    report = _progress_line("Reading")
    session.read(
        book.text,
        title=book.title,
        spans=book.spans,
        progress=None
        if quiet
        else lambda p: report(
            p.tokens_done / p.tokens_total,
            f"chunk {p.chunks_done} of {p.chunks_total}, {p.tokens_per_second:.0f} tokens/s, {p.seconds_left:.0f} s",
        ),
    )


def _json(values: dict[str, Any]) -> str:
    """Return JSON with letters as they are, where the output has them all."""
    text = json.dumps(values, ensure_ascii=False, indent=1)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(values, indent=1)
    return text


def _progress_line(what: str) -> Any:
    def show(share: float, words: str = "") -> None:
        if sys.stderr.isatty():
            print(
                f"\r{what} {share:4.0%} {words}\x1b[K",
                end="\n" if share >= 1 else "",
                file=sys.stderr,
                flush=True,
            )

    return show


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m memlong", description="Ask a long text, from a memory.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("ask", help="read a book (txt, md, pdf, epub, docx, html) and answer a question")
    command.usage = "%(prog)s [options] BOOK QUESTION\n       %(prog)s [options] --load DIR QUESTION"
    command.add_argument("words", nargs="+", metavar="BOOK QUESTION", help="with --load: the question alone")
    command.add_argument("--load", type=Path, metavar="DIR", help="folder of a saved session, in place of BOOK")
    what = "memory: keys and values of the chunks found; passages: their text in the prompt; both; nothing"
    command.add_argument("--answer-from", choices=ANSWER_FROM, default="memory", help=f"{what} (default: memory)")
    command.add_argument("--top-k", type=int, help="chunks to fetch (default: the model's setting)")
    command.add_argument("--max-tokens", type=int, default=64, help="tokens of the answer at most (default: 64)")
    _common(command, ask)
    command = commands.add_parser("read", help="read a book of any such format and save the session")
    command.add_argument("book")
    command.add_argument("--save", type=Path, required=True, metavar="DIR", help="folder to save in")
    _common(command, read)
    command = commands.add_parser("fit", help="fit the maps of a preset by least squares")
    command.add_argument("model", help='"bundled", a folder or a hub id')
    command.add_argument("texts", nargs="+", help="books of any format that ask reads")
    what = "who reads maps (default: interpolated); own and paper read none"
    command.add_argument("--preset", choices=PRESETS, default="interpolated", help=what)
    command.add_argument("--out", default="maps", help="folder for maps.safetensors and memory.json (default: maps)")
    command.set_defaults(run=fit)
    command = commands.add_parser("replay", help="rebuild the bank at any step of a trace, without a model")
    command.add_argument("trace", type=Path, help="trace.jsonl (--trace, or the app's export), or a saved folder")
    command.add_argument("--step", type=int, help="event after which to stop; left out, the last")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=replay)
    return parser


def _common(command: argparse.ArgumentParser, run: Any) -> None:
    command.add_argument("--model", default="bundled", help='"bundled" (the default), a folder or a hub id')
    what = "auto (the default), bge-m3, hybrid, minilm, hashing, or sentence:MODEL"
    command.add_argument("--retriever", default="auto", help=what)
    command.add_argument("--capacity-tokens", type=int, help="tokens the bank may hold")
    command.add_argument("--policy", help=f"who leaves a full bank: {', '.join(POLICIES)}")
    command.add_argument("--chunk-tokens", type=int, help="tokens of one chunk")
    command.add_argument("--trace", type=Path, help="write every event to this file, one line of JSON each")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)
