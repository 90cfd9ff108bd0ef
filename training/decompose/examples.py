"""Questions to learn from: those of documents, which take one step, and others that take two."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memlong.errors import ConfigError
from training.data.chronicle.ask import Asker
from training.data.chronicle.world import WorldMaker
from training.data.questions import CONTINUATION
from training.data.sources import counted, open_source
from training.decompose.config import DecomposeConfig
from training.decompose.patterns import Example, Maker

_WORLDS, _WORLD_CHARS = 24, 60_000
_PATTERNED = 6_000  # examples by patterns
_FIRST_SEED = 7_000


@dataclass(frozen=True)
class ExampleSets:
    """Examples by kind ("told", "made" or a source): those to learn from, and those that are kept out."""

    training: dict[str, list[Example]]
    held_out: dict[str, list[Example]]


def load_examples(config: DecomposeConfig, say: Callable[[str], None]) -> ExampleSets:
    """Return all examples; what is kept out has other names, worlds and documents.

    Raises:
        ConfigError: for an unknown source, or one without a question. DocumentError: for missing files.
    """
    training: dict[str, list[Example]] = {
        "told": list(told(range(_FIRST_SEED, _FIRST_SEED + _WORLDS), "train")),
        "made": list(made(config.seed, _PATTERNED, "train")),
    }
    held_out: dict[str, list[Example]] = {
        "told": list(told(range(_FIRST_SEED, _FIRST_SEED + 2), "eval")),
        "made": list(made(config.seed, config.eval_questions, "eval")),
    }
    for text in config.sources:
        name, most = counted(text)
        learned, kept = _asked(name, most, config)
        say(f"{name}: {len(learned):,} questions to learn from, {len(kept):,} kept out")
        if not learned:
            raise ConfigError(f"The source {text} has no question", "Sources with some", "Leave it out")
        training[name], held_out[name] = learned, kept
    return ExampleSets(training, {kind: _spread(each, config.eval_questions) for kind, each in held_out.items()})


def told(seeds: Sequence[int], split: str) -> Iterator[Example]:
    """Yield the two-hop questions of the worlds of chronicles, whose words for a person are known."""
    for seed in seeds:
        rng = random.Random(f"bridges {split} {seed}")
        world = WorldMaker(rng, split, _WORLD_CHARS).make()
        for bridge in Asker(world, [], rng, "").bridges():
            yield Example(bridge.text, bridge.person)


def made(seed: int, count: int, split: str) -> Iterator[Example]:
    """Yield questions by patterns: two of three take two steps, or look as if they did."""
    rng = random.Random(f"patterns {split} {seed}")
    maker = Maker(rng, split)
    for _ in range(count):
        yield maker.two_steps() if rng.random() < 2 / 3 else maker.one_step()


def draw(sets: Mapping[str, Sequence[Example]], config: DecomposeConfig, step: int) -> list[Example]:
    """Return the questions of a step; of the sources all are equally likely."""
    rng = random.Random(f"{config.seed}:{step}")
    sources = [kind for kind in sets if kind not in ("told", "made")]
    rest = (1 - config.told - config.made) / len(sources)
    kinds = rng.choices(
        ["told", "made", *sources], [config.told, config.made, *[rest] * len(sources)], k=config.questions
    )
    return [rng.choice(sets[kind]) for kind in kinds]


def _asked(name: str, most: int | None, config: DecomposeConfig) -> tuple[list[Example], list[Example]]:
    """Return a source's questions, all of them taking one step, and those of the documents that are kept out."""
    learned: list[Example] = []
    kept: list[Example] = []
    for number, (_, _, questions) in enumerate(open_source(name, Path(config.data))):
        if most is not None and number == most:
            break
        plain = [q.question for q in questions if q.type not in ("two_hop", CONTINUATION)]
        (kept if number % 10 < config.held_out else learned).extend(Example(text, None) for text in plain)
    return learned, kept


def _spread(examples: Sequence[Example], most: int) -> list[Example]:
    """Return at most ``most`` examples, evenly spread."""
    if len(examples) <= most:
        return list(examples)
    return [examples[index * len(examples) // most] for index in range(most)]
