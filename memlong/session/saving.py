"""A session on disk: the bank's tensors, the documents' texts and the trace, replaced as one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlong.bank import persist
from memlong.bank.ledger import ChunkRecord
from memlong.bank.savefolder import SavedFolder
from memlong.chunking import PageSpan, chunk_text
from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.paths import is_path
from memlong.session.banking import bank_device
from memlong.session.reading import Reading
from memlong.session.results import DocumentState
from memlong.trace.recorder import Recorder

if TYPE_CHECKING:
    from memlong.session.session import Session

TRACE = "trace.jsonl"


def fingerprint(model: MemoryModel, retriever: Any, config: MemoryConfig) -> dict[str, Any]:
    """Return what must be equal for a bank to be of use: weights, layers, sizes and embedder."""
    return {
        "model": model.fingerprint(),
        "retriever": retriever.fingerprint,
        "stored_layers": list(model.layout.stored_layers),
        "chunk_tokens": config.chunk_tokens,
        "window_tokens": config.window_tokens,
    }


def _names(model: MemoryModel) -> dict[str, str]:
    """Return what people call the model, whose fingerprint is a hash; a retriever's begins with its name.

    Of a folder on this machine that is its last part: whoever gets the saved session need not know the others.
    """
    return {"model": Path(model.name).resolve().name if is_path(model.name) else model.name}


def save(session: Session, folder: Path) -> None:
    """Save a session; an older save in the folder is replaced in one step, or stays whole.

    Raises:
        PersistError: when the folder cannot be written.
    """
    session.layers.settle()
    documents = []
    files: dict[str, bytes] = {}
    for document in session.documents.values():
        row = asdict(document)
        files[f"document-{document.doc_id}.txt"] = row.pop("text").encode("utf-8", "surrogatepass")
        documents.append(row | {"readable": document.doc_id in session.readings})
    files[TRACE] = session.recorder.to_jsonl()
    extra = {
        "config": session.config.to_dict(),
        "documents": documents,
        "turns": session.turns,
        "answers": session.asked,
        "gone": [asdict(record) for record in session.gone.values()],
    }
    made_with = fingerprint(session.model, session.retriever, session.config)
    persist.save(session.bank, folder, made_with, extra, files, _names(session.model))


def saved_config(folder: Path) -> MemoryConfig:
    """Return the settings of a saved session, without loading anything else.

    Raises:
        PersistError: when nothing is saved there, or it is damaged.
    """
    return MemoryConfig.from_dict(SavedFolder(folder).read_json(persist.EXTRA)["config"])


def load(kind: type[Session], folder: Path, model: MemoryModel, retriever: Any) -> Session:
    """Return a saved session, ready to read on and to be asked.

    Raises:
        PersistError: for a damaged folder, or a bank of another model, retriever or chunk size.
    """
    device = bank_device(model, model.config)
    # The session goes on with the windows it was read in, whatever the model's own are.
    its = SavedFolder(folder).about.get("fingerprint")
    windows = {"window_tokens": its["window_tokens"]} if isinstance(its, dict) and "window_tokens" in its else {}
    mine = fingerprint(model, retriever, model.config) | windows
    saved = persist.load(folder, mine, device, _names(model))
    extra = saved.extra
    config = MemoryConfig.from_dict(extra["config"])
    trace = Recorder.from_jsonl(saved.files.read(TRACE))
    session = kind(model, retriever, config, trace, bank=saved.bank)
    for row in extra["documents"]:
        readable = row.pop("readable")
        text = saved.files.read(f"document-{row['doc_id']}.txt").decode("utf-8", "surrogatepass")
        spans = tuple(PageSpan(**span) for span in row.pop("spans"))
        document = DocumentState(**row, text=text, spans=spans)
        session.documents[document.doc_id] = document
        if readable:
            chunks = chunk_text(session.tokenizer, text, config.chunk_tokens, config.whole_sentences)
            session.readings[document.doc_id] = Reading(document, chunks)
    session.turns = [(question, answer) for question, answer in extra["turns"]]
    session.asked = extra["answers"]
    for row in extra["gone"]:
        record = ChunkRecord(**row | {"span": tuple(row["span"])})
        session.gone[record.chunk_id] = record
    return session
