"""The configuration files for ``accelerate launch``: it reads them, and tells the processes what they act on."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from memlong.errors import ConfigError
from tests.training.stages.test_processes import LAUNCHED
from training.recipes import recipe
from training.stages import processes

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "training/configs"
SHARES = {"several.yaml": "Copies", "fsdp.yaml": "Sharded", "zero2.yaml": "Zero2"}


def launched(name: str, monkeypatch, *more: str) -> dict[str, str]:
    """Return the variables that the launcher sets on a machine, for the command of the documentation."""
    for key in [key for key in os.environ if key.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.delenv(key)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    words = ["--config_file", str(CONFIGS / name), *more, "-m", "training", "run", "stage2-openllama-3b", "steps=3"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert (arguments.training_script, arguments.module) == ("training", True)
    assert arguments.training_script_args == ["run", "stage2-openllama-3b", "steps=3"]
    if name == "zero2.yaml":
        arguments.deepspeed_fields_from_accelerate_config = ""  # of no use here; the launcher fills it in on the way
        return prepare_deepspeed_cmd_env(arguments)[1]
    return prepare_multi_gpu_env(arguments)


@pytest.mark.parametrize("name", SHARES)
def test_the_launcher_tells_the_processes_what_the_tests_of_two_processes_do(name, monkeypatch):
    more = () if name == "several.yaml" else ("--machine_rank", "1", "--main_process_ip", "10.0.0.1")
    told = launched(name, monkeypatch, *more)
    wanted = LAUNCHED[SHARES[name]]
    assert {key: told.get(key) for key in wanted} == wanted
    for key in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        assert told.get(key, "false") == wanted.get(key, "false")
    assert told.get("FSDP_OFFLOAD_PARAMS", "false") == told.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false") == "false"
    assert told["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.parametrize("name", SHARES)
def test_files_say_what_the_documentation_says(name):
    config = load_config_from_file(str(CONFIGS / name))
    said = (ROOT / "docs/training.md").read_text("utf-8")
    machines, processes_ = config.num_machines, config.num_processes
    row = next(line for line in said.splitlines() if line.startswith(f"| `{name}`"))
    assert [int(number) for number in re.findall(r"\b\d+\b", row.split("|")[2])] == [machines, processes_]
    assert f"accelerate launch --config_file training/configs/{name}" in said


def test_the_files_are_all_there_is():
    assert {path.name for path in CONFIGS.iterdir()} == set(SHARES)


class TwoProcesses:
    num_processes = 2


@pytest.mark.parametrize(
    "told, match",
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "zero_stage: 2"),
    ],
    ids=["version", "offload", "stage"],
)
def test_other_ways_to_share_are_refused(told, match, monkeypatch):
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match=match):
        processes.shared(TwoProcesses(), recipe("stage1-toy"))
