"""Completion of commands and words by the Tab key, in bash, zsh and fish."""

from __future__ import annotations

import re
from collections.abc import Iterable

import click
from click.shell_completion import get_completion_class

from ...configs.groups import GROUPS, baselines, choices, read


@click.command(
    epilog="""\b
Examples:
  neuraxis completion bash >> ~/.bashrc
  neuraxis completion zsh >> ~/.zshrc
  neuraxis completion fish > ~/.config/fish/completions/neuraxis.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print what lets SHELL complete commands and words: neuraxis train agent=p<Tab>."""
    found = get_completion_class(shell)
    assert found is not None and ctx.parent is not None
    click.echo(found(ctx.parent.command, {}, "neuraxis", "_NEURAXIS_COMPLETE").source())
    return 0


def words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The words that begin as `incomplete` does.

    bash takes `agent=p` for three words: then the first two come as words before, and only the
    value is wanted. Of `agent=` it gives the first word alone.
    """
    before = [*(ctx.params.get(parameter.name or "") or ())]
    if not incomplete and before[-1:] and before[-1] in GROUPS:
        return _values(before[-1], "")
    if before[-1:] == ["="]:
        return _values(before[-2], incomplete) if before[1:] else []
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={found}" for found in _values(key, value)]
    return [f"{found}=" for found in _beginning(_keys(key, before), key)]


def _keys(begin: str, before: list[str]) -> Iterable[str]:
    """The keys to choose from, after other words.

    Those of a section import PyTorch, so they wait for a dot, or for what begins no group.
    """
    if "." not in begin and any(group.startswith(begin) for group in GROUPS):
        return GROUPS
    from ...configs.schema import keys, schema_for

    chosen = dict(re.findall(r"\b(agent|network)=(\S+)", " ".join(before).replace(" = ", "=")))
    agent, network = chosen.get("agent", "ppo"), chosen.get("network", "mlp")
    known = {"agent": read("agent", agent) or {"name": agent}, "network": read("network", network)}
    return keys(schema_for(known))


def _values(key: str, begin: str) -> list[str]:
    """What a key may be, as far as there is a list of it."""
    if key not in GROUPS:
        return []
    found = list(choices(key))
    if key == "env":
        from ...envs.ids import offered

        found += offered()
    if key == "agent":
        found += baselines()
    return _beginning(found, begin)


def _beginning(names: Iterable[str], begin: str) -> list[str]:
    return [name for name in names if name.startswith(begin)]
