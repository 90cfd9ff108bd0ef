"""The tables of benchmarks/README.md, made from results/: ``python -m benchmarks.table`` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.__main__ import NAMES
from benchmarks.common import RESULTS

README = Path(__file__).parent / "README.md"
_OPERATIONS = ("search", "search_batch", "trigger", "add", "evict")

Reports = Mapping[str, Mapping[str, Any]]


def load(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the reports of the benchmarks of this folder, by name."""
    paths = [folder / f"{name}.json" for name in NAMES]
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths if path.is_file()}


def rows(reports: Reports) -> str:
    """Return the table of all numbers that have a target, the missed ones in bold."""
    lines = ["| benchmark | number | measured | target | met |", "| --- | --- | --- | --- | --- |"]
    for name in reports:
        for key, row in reports[name]["targets"].items():
            met = "yes" if row["met"] else "**no**"
            lines.append(f"| {name} | `{key}` | {row['value']:.3g} | {row['target']} | {met} |")
    lines += [f"| {name} | | not measured yet | | |" for name in NAMES if name not in reports]
    return "\n".join(lines)


def search_rows(report: Mapping[str, Any]) -> str:
    """Return the table of the search benchmark: sizes down, operations across."""
    sizes = sorted((key for key in report["numbers"] if key.isdigit()), key=int)
    lines = ["| chunks held | " + " | ".join(f"`{each}`" for each in _OPERATIONS) + " |"]
    lines.append("| --- " * (1 + len(_OPERATIONS)) + "|")
    for size in sizes:
        numbers = report["numbers"][size]
        lines.append(f"| {int(size):,} | " + " | ".join(f"{numbers[each]:,.0f}" for each in _OPERATIONS) + " |")
    return "\n".join(lines)


def speed_rows(reports: Reports) -> str:
    """Return the table of tokens per second, or milliseconds per token, of everything that took turns."""
    lines = ["| benchmark | what | number | unit |", "| --- | --- | --- | --- |"]
    units = {
        "tokens_per_second": "tokens/s",
        "tokens_per_second_long": "tokens/s, long text",
        "milliseconds_per_token": "ms a token",
        "milliseconds_per_chunk": "ms a chunk, with so many tokens stored",
        "read_shares": "share of reading",
    }
    for name in reports:
        for group, unit in units.items():
            for key, value in reports[name]["numbers"].get(group, {}).items():
                lines.append(f"| {name} | `{key}` | {value:,.3g} | {unit} |")
    return "\n".join(lines)


def where(reports: Reports) -> str:
    """Return a line for each benchmark: command, date, machine and versions."""
    lines = []
    for name in reports:
        report = reports[name]
        machine, versions = report["machine"], ", ".join(f"{key} {value}" for key, value in report["versions"].items())
        device = machine.get("gpu", machine["processor"])
        sets = " ".join(machine["instruction_sets"])
        cores = f"{machine['cores']} cores, {machine['threads_used']} thread used"
        cores += f", load {machine['load']:g}" if "load" in machine else ""
        lines.append(f"- `{report['command']}`, {report['date']}: {device} ({cores}; {sets}); {versions}")
    return "\n".join(lines)


def filled(text: str, reports: Reports) -> str:
    """Return the README with all tables made anew between their marks."""
    tables = {
        "targets": rows(reports),
        "search": search_rows(reports["search"]),
        "speed": speed_rows(reports),
        "where": where(reports),
    }
    for name, table in tables.items():
        begin, end = (f"<!-- {mark} {name} -->" for mark in ("begin", "end"))
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    """Write the tables of the README from the results."""
    README.write_text(filled(README.read_text("utf-8"), load()), "utf-8")


if __name__ == "__main__":
    main()
