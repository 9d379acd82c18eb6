"""From the tensors of one agent to those of another, by their names: what a run starts from.

    tensors, report = transfer(there, here, InitConfig.model_validate({"from": "runs/first"}))

"There" is what is loaded from, "here" the agent that is to start. Names are those of a policy's
`state_dict()`; those of an agent's other parts open with the part (`critics.heads.0.bias`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Literal

import torch
from pydantic import BaseModel, Field, field_validator, model_validator
from torch import Tensor, nn

from .counterparts import RENAME, Named, check_chains, counterparts
from .patterns import first_parts, matches, matching
from .report import STATISTICS, Report, common, is_statistic, report


class InitConfig(
    BaseModel,
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    serialize_by_alias=True,
):
    """What a run starts from in place of random weights."""

    source: str | None = Field(default=None, alias="from", min_length=1)
    """A run, a checkpoint's folder, a .safetensors file or wandb:ENTITY/PROJECT/ARTIFACT:ALIAS;
    null: random weights."""
    checkpoint: str = "best"
    """Which checkpoint of that run: best, last or step_..."""
    parts: tuple[str, ...] = Field(default=("*",), min_length=1)
    """What is loaded: patterns of names here, `[backbone.*]` for instance."""
    renames: tuple[str, ...] = ()
    """Renames, each THERE=HERE up to a dot: `[critic=backbone]`."""
    shapes: Literal["refuse", "skip", "new", "slice"] = "refuse"
    """Where shapes differ. refuse: do not start; skip: the tensor stays new; new: its whole layer
    stays new; slice: the rows and columns that both have are loaded."""
    statistics: Literal["carry", "fresh"] = "carry"
    """The statistics by which observations are normalised: carried on, or fresh, those of
    `agent.rnd` as well."""
    reward_scale: Literal["carry", "fresh"] = "carry"
    """The deviation of returns by which rewards are divided: carried on, or fresh."""

    @field_validator("renames")
    @classmethod
    def _pairs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for rename in value:
            if not re.fullmatch(RENAME, rename):
                raise ValueError(f"{rename}: expected THERE=HERE, like critic=backbone")
        return value

    @model_validator(mode="after")
    def _from_something(self) -> InitConfig:
        fields = type(self).model_fields.items() if self.source is None else ()
        for name, field in fields:
            value = getattr(self, name)
            if value != field.default:
                shown = value if isinstance(value, str) else f"[{', '.join(value)}]"
                raise ValueError(f"{name}={shown}: expected init.from, which says of what")
        return self


def transfer(
    there: Named,
    here: Named,
    config: InitConfig,
    packed: Collection[str] = (),
    unlike: Mapping[str, str] | None = None,
) -> tuple[dict[str, Tensor], Report]:
    """Computes what an agent starts from; changes nothing and draws no random numbers.

    Args:
        there: Tensors by name.
        here: Those of the agent, of which `nn.Parameter`s are weights.
        config: What is loaded, and how.
        packed: Names here of layers whose first rows alone are of no use, such as gates: where the
            numbers of rows differ they are not sliced.
        unlike: Names here whose numbers mean something else there, each with what is said of it:
            treated as if their shapes differed, and never sliced.

    Returns:
        The new values by name here, in the shapes and dtypes here; and the report.

    Raises:
        ValueError: Nothing can be loaded, or a tensor cannot be loaded as `config` says; names it.
    """
    unlike = unlike or {}
    origin = counterparts(there, here, config.renames)
    given = {name: there[origin[name]] for name in _chosen(origin, there, here, config)}
    values = {n: x for n, x in given.items() if x.shape == here[n].shape and n not in unlike}
    differing = [name for name in given if name not in values]
    if config.shapes == "refuse":
        _refuse(differing, given, here, unlike)
        check_chains(values, there, here, origin, config.parts)
    sliced: dict[str, Tensor] = {}
    if config.shapes == "slice":
        for name in (name for name in differing if name not in unlike):
            sliced |= _sliced(name, given[name], here[name], name in packed)
    fresh = [name for name in differing if name not in sliced]
    if config.shapes == "skip":  # but statistics of a layer belong together
        fresh = [name for name in fresh if not isinstance(here[name], nn.Parameter)]
    layers = {_layer(name) for name in fresh}
    values = {n: x for n, x in (values | sliced).items() if _layer(n) not in layers}
    if not any(isinstance(here[name], nn.Parameter) for name in values):
        raise ValueError(f"no tensor there fits one here ({_both(there, here)})")
    values = {name: _finite(x, here[name].dtype, origin[name]) for name, x in values.items()}
    return values, report(values, sliced, there, here, origin)


def _chosen(
    origin: Mapping[str, str], there: Named, here: Named, config: InitConfig
) -> Iterator[str]:
    """The names here that are to be loaded. Raises ValueError for a pattern without any."""
    if all(name.startswith(STATISTICS) for name in origin):
        raise ValueError(f"no tensor there has the name of one here ({_both(there, here)})")
    for pattern in config.parts:
        lacking = [name for name in here if matches(name, pattern)]
        if lacking and not any(name in origin for name in lacking):
            known = first_parts(there)
            raise ValueError(f"init.parts: {pattern}: nothing there is named so (there: {known})")
    try:
        names = matching(origin, config.parts)
    except ValueError as error:
        raise ValueError(f"init.parts: {error}") from error
    yield from (name for name in names if not is_statistic(name))
    if config.statistics == "carry":
        yield from (n for n in origin if n.startswith(STATISTICS))
        yield from (n for n in names if is_statistic(n) and not n.startswith(STATISTICS))


def _refuse(differing: list[str], given: Named, here: Named, unlike: Mapping[str, str]) -> None:
    """Raises ValueError if tensors differ in their shapes."""
    if not differing:
        return
    name = differing[0]
    shapes = f"has the shape {list(given[name].shape)} there and {list(here[name].shape)} here"
    more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
    other = "init.statistics=fresh" if is_statistic(name) else "init.parts without it"
    raise ValueError(
        f"{name} {unlike.get(name, shapes)}{more}; take init.shapes=skip, new or slice, or {other}"
    )


def _sliced(name: str, given: Tensor, built: Tensor, packed: bool) -> dict[str, Tensor]:
    """The tensor as it was built, with the common part of `given`; {} if it cannot be sliced."""
    other_rows = given.shape[:1] != built.shape[:1]
    counted = not isinstance(built, nn.Parameter)  # statistics are of a whole layer
    if counted or given.ndim != built.ndim or (packed and other_rows):
        return {}
    part = tuple(slice(size) for size in common(given, built))
    value = built.detach().clone()
    value[part] = given[part].to(value)
    return {name: value}


def _finite(value: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    value = value.to(dtype)
    if not value.isfinite().all():
        raise ValueError(f"{name} has numbers that are not finite (NaN, infinite or too large)")
    return value


def _layer(name: str) -> str:
    """The name of the layer that holds a tensor."""
    return name.rpartition(".")[0] or name


def _both(there: Named, here: Named) -> str:
    return f"there: {first_parts(there)}; here: {first_parts(here)}"
