"""The command that gives a run to other programs and other runs."""

from __future__ import annotations

from pathlib import Path

import click

from ...core.files import expanded
from . import options
from .exit_codes import usage_errors
from .output import say


@click.command(
    epilog="""\b
Examples:
  neuraxis export runs/CartPole-v1/ppo-mlp/20260101-120000-s0 --wandb
  neuraxis export RUN --wandb wandb.entity=my-team wandb.artifacts=true
  neuraxis export RUN --policy policy.safetensors
  neuraxis export RUN --backbone backbone.safetensors
  neuraxis export RUN --sb3 model.zip
"""
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[wandb.KEY=VALUE]...")
@click.option("--wandb", is_flag=True, help="Upload what W&B lacks of the run.")
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
    "--sb3",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the policy as a model of Stable-Baselines3: a .zip file.",
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
    policy: Path | None,
    backbone: Path | None,
    sb3: Path | None,
    checkpoint: str,
    trust: bool,
) -> int:
    """Give RUN to another program, or its policy or backbone as a file.

    An upload repeats what the folder says, whatever wandb.mode the run had. The run at W&B keeps
    its id, and what W&B has already is not sent again.

    The file of a policy has all that `load` needs to build it again. A backbone comes with the
    statistics of observations that it was trained under. An actor-critic gives its actor's.
    Stable-Baselines3 loads the file of --sb3; statistics are a file of VecNormalize beside it.
    """
    with usage_errors():
        if not wandb and backbone is None and policy is None and sb3 is None:
            places = "--wandb, --policy FILE, --backbone FILE or --sb3 FILE"
            raise ValueError(f"export: expected where to, {places}")
        if words and not wandb:
            raise ValueError(f"{words[0]}: expected no words without --wandb")
        if policy is not None:
            _write_policy(run, checkpoint, expanded(policy))
        if backbone is not None:
            _write_backbone(run, checkpoint, expanded(backbone))
        if sb3 is not None:
            _write_sb3(run, checkpoint, expanded(sb3), trust)
        if wandb:
            _upload(run, words, trust)
    return 0


def _write_backbone(run: Path, checkpoint: str, file: Path) -> None:
    from ..storage.weights import write_backbone

    count = write_backbone(run, checkpoint, file)
    say(f"{count:,} parameters: {file}")


def _write_policy(run: Path, checkpoint: str, file: Path) -> None:
    from ..saved_policy import write_policy

    count = write_policy(run, file, checkpoint)
    say(f"{count:,} parameters: {file}")


def _write_sb3(run: Path, checkpoint: str, file: Path, trust: bool) -> None:
    from ...core.errors import Guard

    with Guard(lambda: "export --sb3", ValueError):
        from ..interop.sb3_export import write_model
    found = write_model(run, checkpoint, file, trust)
    say(f"{found.parameters:,} parameters, for {found.algorithm}.load: {file}")
    if found.statistics is not None:
        say(f"statistics, for VecNormalize.load: {found.statistics}")


def _upload(run: Path, words: tuple[str, ...], trust: bool) -> None:
    from ..tracking.wandb_upload import upload

    uploaded = upload(run, words, trust)
    say(f"{uploaded.sent:,} of {uploaded.rows:,} rows were missing: {uploaded.url}")
