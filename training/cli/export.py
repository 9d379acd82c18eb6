"""The command that gives a run to other programs and other runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from ...core.errors import require
from ...core.files import expanded
from . import options
from .exit_codes import usage_errors
from .output import next_steps, say


class Source(NamedTuple):
    """What is written of a run."""

    run: Path
    checkpoint: str
    trust: bool


def _place(option: str, kind: str, text: str) -> Callable[[Any], Any]:
    """An option that says where something is written."""
    return click.option(option, type=click.Path(path_type=Path), metavar=kind, help=text)


@click.command(
    epilog="""\b
Examples:
  neuraxis export runs/CartPole-v1/ppo-mlp/20260101-120000-s0 --wandb
  neuraxis export RUN --wandb wandb.entity=my-team wandb.artifacts=true
  neuraxis export RUN --tensorboard logs
  neuraxis export RUN --policy policy.safetensors
  neuraxis export RUN --backbone backbone.safetensors
  neuraxis export RUN --onnx policy.onnx
  neuraxis export RUN --sb3 model.zip
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[wandb.KEY=VALUE]...")
@click.option("--wandb", is_flag=True, help="Upload what W&B lacks of the run.")
@_place("--tensorboard", "DIR", "Write event files for TensorBoard: DIR/NAME of the run.")
@_place("--policy", "FILE", "Write the policy, for load(FILE) in Python: a .safetensors file.")
@_place("--backbone", "FILE", "Write the backbone, for init.from=FILE: a .safetensors file.")
@_place("--onnx", "FILE", "Write the policy as a graph, for ONNX Runtime: an .onnx file.")
@_place("--sb3", "FILE", "Write the policy as a model of Stable-Baselines3: a .zip file.")
@click.option(
    "--checkpoint",
    default="best",
    show_default=True,
    help="Whose policy or backbone: best, last or step_...",
)
@options.trust
def export(
    run: Path,
    words: tuple[str, ...],
    wandb: bool,
    checkpoint: str,
    trust: bool,
    **places: Path | None,
) -> int:
    """Give RUN to another program, or its policy or backbone as a file.

    An upload repeats what the folder says, whatever wandb.mode the run had. The run at W&B keeps
    its id, and what W&B has already is not sent again.

    The file of a policy has all that `load` needs to build it again. A backbone comes with the
    statistics of observations that it was trained under. An actor-critic gives its actor's.

    A graph takes the environment's observations and gives its greedy actions, without neuraxis. It
    is compared with `predict` before it is written. RUN may also be a policy's file.

    Stable-Baselines3 loads the file of --sb3; statistics are a file of VecNormalize beside it.
    """
    with usage_errors():
        given = {name: expanded(place) for name, place in places.items() if place is not None}
        if not (wandb or given):
            raise ValueError(
                "export: expected where to: --wandb, --tensorboard DIR, --policy FILE, "
                "--backbone FILE, --onnx FILE or --sb3 FILE"
            )
        if words and not wandb:
            raise ValueError(f"{words[0]}: expected no words without --wandb")
        for name, place in given.items():
            _WRITERS[name](Source(run, checkpoint, trust), place)
        if wandb:
            _upload(run, words, trust)
    return 0


def _write_events(source: Source, place: Path) -> None:
    from ..tracking.tensorboard_mirror import export as write

    say(f"tensorboard: {write(source.run, place)}")
    next_steps([(f"tensorboard --logdir {shlex.quote(str(place))}", "show it in your browser")])


def _write_policy(source: Source, place: Path) -> None:
    from ..saved_policy import write_policy

    count = write_policy(source.run, place, source.checkpoint)
    say(f"{count:,} parameters: {place}")


def _write_backbone(source: Source, place: Path) -> None:
    from ..storage.weights import write_backbone

    count = write_backbone(source.run, source.checkpoint, place)
    say(f"{count:,} parameters: {place}")


def _write_onnx(source: Source, place: Path) -> None:
    from ..interop.onnx_files.onnx_export import write_onnx
    from ..saved_policy import load

    written = write_onnx(load(*source), place)
    say(f"{written.size:,} bytes, within {written.difference:.1g} of predict: {place}")


def _write_sb3(source: Source, place: Path) -> None:
    require("export --sb3", "stable_baselines3", "sb3_contrib")
    from ..interop.sb3_models.sb3_export import write_model

    found = write_model(source.run, source.checkpoint, place, source.trust)
    say(f"{found.parameters:,} parameters, for {found.algorithm}.load: {place}")
    if found.statistics is not None:
        say(f"statistics, for VecNormalize.load: {found.statistics}")


_WRITERS = {
    "tensorboard": _write_events,
    "policy": _write_policy,
    "backbone": _write_backbone,
    "onnx": _write_onnx,
    "sb3": _write_sb3,
}
"""By the option that says where."""


def _upload(run: Path, words: tuple[str, ...], trust: bool) -> None:
    from ..tracking.wandb_upload import upload

    uploaded = upload(run, words, trust)
    say(f"{uploaded.sent:,} of {uploaded.rows:,} rows were missing: {uploaded.url}")
