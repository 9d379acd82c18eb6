"""`neuraxis list`: what there is to choose from, and which choices go together."""

from __future__ import annotations

import click

from ...configs.groups import baselines, choices, read
from ...core.errors import nearest
from .output import columns

LISTS = {
    "agents": "agent",
    "envs": "env",
    "networks": "network",
    "experiments": "experiment",
    "sweeps": "sweep",
    "baselines": "baseline agent",
}
"""What `list` takes, and the word that makes the choice: agents are chosen by `agent=NAME`."""


@click.command(
    "list",
    epilog="""\b
Examples:
  neuraxis list
  neuraxis list networks
""",
)
@click.argument("what", metavar=f"[{'|'.join(LISTS)}]", required=False)
def list_choices(what: str | None) -> int:
    """List what there is to choose from, and which agents learn which networks and actions."""
    if what is not None and what not in LISTS:
        known = ", ".join(LISTS)
        raise click.UsageError(f"{what}: no such list{nearest(what, LISTS)} (choices: {known})")
    for name in [what] if what else LISTS:
        click.echo(f"{name} ({LISTS[name]}=NAME)")
        found = baselines() if name == "baselines" else choices(LISTS[name])
        columns(list(found.items()))
        if name == "envs":
            ids = "env=Acrobot-v1, env=ALE/Pong-v5, env=my_package:Id-v0"
            columns([("", f"and every Gymnasium id: {ids}")])
    if what in (None, "agents"):
        click.echo("what the agents learn")
        from ..analysis.terminal import Column, fit, wide_console

        heading, *rows = matrix()
        named = [Column(name, number=name not in ("agent", "actions")) for name in heading]
        console = wide_console()
        console.print(fit(named, rows, console.width))
    return 0


def matrix() -> list[tuple[str, ...]]:
    """The table agent x block x actions, as the classes say it; its first row is the heading.

    A preset is a row as well: it learns what its agent learns. Imports PyTorch.
    """
    from ...agents import agent_class
    from ...networks import block_class, block_names
    from ...networks.backbone import may_remember

    names = block_names()
    memory = {name for name in names if may_remember(block_class(name).Config(name=name))}
    blocks = sorted(names, key=lambda name: name in memory)
    rows = [("agent", *blocks, "actions", "ray.mode=async")]
    for name in choices("agent"):
        preset = read("agent", name) or {"name": name}
        agent = agent_class(preset["name"])
        settings = {key: value for key, value in preset.items() if key in agent.Config.model_fields}
        lacks = set() if agent.memory else memory
        if agent.needs_memory(agent.Config(**settings)):
            lacks = set(blocks) - memory
        fits = ["-" if not agent.has_network else "no" if b in lacks else "yes" for b in blocks]
        actions = ", ".join(kind.__name__ for kind in agent.action_spaces)
        rows.append((name, *fits, actions, "yes" if agent.asynchronous else "no"))
    return rows
