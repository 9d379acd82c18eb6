"""The command that gives a run to other programs and other runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ...core.files import expanded
from . import options
from .exit_codes import usage_errors
from .output import next_steps, say


@click.command(
    epilog="""\b
Examples:
  neuraxis export runs/CartPole-v1/ppo-mlp/20260101-120000-s0 --wandb
  neuraxis export RUN --wandb wandb.entity=my-team wandb.artifacts=true
  neuraxis export RUN --tensorboard logs
  neuraxis export RUN --policy policy.safetensors
  neuraxis export RUN --backbone backbone.safetensors
  neuraxis export RUN --onnx policy.onnx
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[wandb.KEY=VALUE]...")
@click.option("--wandb", is_flag=True, help="Upload what W&B lacks of the run.")
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the run for TensorBoard, into a folder of its name in DIR.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the policy, for load(FILE) in Python: a .safetensors file.",
)
@click.option(
    "--backbone",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the backbone, for init.from=FILE: a .safetensors file.",
)
@click.option(
    "--onnx",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the policy as a graph, for ONNX Runtime: an .onnx file.",
)
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
    tensorboard: Path | None,
    policy: Path | None,
    backbone: Path | None,
    onnx: Path | None,
    checkpoint: str,
    trust: bool,
) -> int:
    """Give RUN to another program, or its policy or backbone as a file.

    An upload repeats what the folder says, whatever wandb.mode the run had. The run at W&B keeps
    its id, and what W&B has already is not sent again.

    The file of a policy has all that `load` needs to build it again. A backbone comes with the
    statistics of observations that it was trained under. An actor-critic gives its actor's.

    A graph takes the environment's observations and gives its greedy actions, without neuraxis. It
    is compared with `predict` before it is written. RUN may also be a policy's file.
    """
    with usage_errors():
        if not (wandb or tensorboard or policy or backbone or onnx):
            raise ValueError(
                "export: expected where to, --wandb, --tensorboard DIR, --policy FILE, "
                "--backbone FILE or --onnx FILE"
            )
        if words and not wandb:
            raise ValueError(f"{words[0]}: expected no words without --wandb")
        if tensorboard is not None:
            _write_events(run, expanded(tensorboard))
        if policy is not None:
            _write_policy(run, checkpoint, expanded(policy))
        if backbone is not None:
            _write_backbone(run, checkpoint, expanded(backbone))
        if onnx is not None:
            _write_onnx(run, checkpoint, expanded(onnx), trust)
        if wandb:
            _upload(run, words, trust)
    return 0


def _write_events(run: Path, out: Path) -> None:
    from ..tracking.tensorboard_mirror import export as write

    say(f"tensorboard: {write(run, out)}")
    next_steps([(f"tensorboard --logdir {shlex.quote(str(out))}", "show it in your browser")])


def _write_backbone(run: Path, checkpoint: str, file: Path) -> None:
    from ..storage.weights import write_backbone

    count = write_backbone(run, checkpoint, file)
    say(f"{count:,} parameters: {file}")


def _write_policy(run: Path, checkpoint: str, file: Path) -> None:
    from ..saved_policy import write_policy

    count = write_policy(run, file, checkpoint)
    say(f"{count:,} parameters: {file}")


def _write_onnx(run: Path, checkpoint: str, file: Path, trust: bool) -> None:
    from ..interop.onnx_export import write_onnx
    from ..saved_policy import load

    written = write_onnx(load(run, checkpoint, trust), file)
    say(f"{written.size:,} bytes, within {written.difference:.1g} of predict: {file}")


def _upload(run: Path, words: tuple[str, ...], trust: bool) -> None:
    from ..tracking.wandb_upload import upload

    uploaded = upload(run, words, trust)
    say(f"{uploaded.sent:,} of {uploaded.rows:,} rows were missing: {uploaded.url}")
