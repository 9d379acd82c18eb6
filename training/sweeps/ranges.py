"""What a sweep tries: `SweepConfig`, the content of configs/sweep/*.yaml, and values drawn from it.

search: random
scheduler: asha
trials: 16
parameters:
  agent.learning_rate: {loguniform: [1e-4, 1e-2]}
  agent.n_epochs: {integers: [4, 20]}
  network: {choice: [mlp, lstm]}
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, Field, ValidationError, model_validator

from ...configs.errors import explain
from ...configs.groups import choices, read
from ...configs.schema import fitted, schema_of
from ...configs.text import brief
from ...configs.words import Word, put
from ...core.errors import nearest

if TYPE_CHECKING:
    from ray.tune.search.sample import Domain

Parameters = dict[str, Any]
DIGITS = 4  # of a number that is drawn: people read them
DEFAULT_TRIALS = 8


class Range(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The values of a key; exactly one of the four is given."""

    choice: tuple[Any, ...] | None = Field(default=None, min_length=1)
    """One of these."""
    uniform: tuple[float, float] | None = None
    """A number between the two."""
    loguniform: tuple[float, float] | None = None
    """A number between the two whose logarithm is uniform: for what spans powers of ten."""
    integers: tuple[int, int] | None = None
    """A whole number from the first to the second, both included."""

    @model_validator(mode="after")
    def _one_range(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            found = f", found {' and '.join(given)}" if given else ""
            raise ValueError(f"expected one of {', '.join(type(self).model_fields)}{found}")
        if self.choice is None:
            low, high = self.ends
            positive = self.loguniform is None or low > 0
            if not (positive and math.isfinite(low) and math.isfinite(high) and low < high):
                rule = "LOW, HIGH" if self.loguniform is None else "LOW, HIGH with 0 < LOW"
                (name,) = given
                raise ValueError(f"{name}={brief([low, high])}: expected [{rule} < HIGH]")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """Both ends of the range; of a choice, all its values."""
        found = self.choice or self.uniform or self.loguniform or self.integers
        assert found is not None
        return found

    def draw(self, rng: np.random.Generator) -> Any:
        """A random value."""
        if self.choice is not None:
            return self.choice[int(rng.integers(len(self.choice)))]
        low, high = self.ends
        if self.integers is not None:
            return int(rng.integers(low, high, endpoint=True))
        if self.loguniform is not None:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    def domain(self) -> Domain:
        """The same for Ray Tune."""
        from ray import tune

        if self.choice is not None:
            return tune.choice(self.choice)
        low, high = self.ends
        if self.integers is not None:
            return tune.randint(low, high + 1)
        return tune.loguniform(low, high) if self.loguniform else tune.uniform(low, high)


class SweepConfig(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A sweep."""

    search: Literal["random", "grid", "optuna"] = "random"
    """Where the next values come from; optuna (TPE) learns from the trials that have ended."""
    scheduler: Literal["none", "asha", "pbt"] = "none"
    """asha stops trials that lag behind; pbt lets them go on from better ones with other values."""
    trials: int | None = Field(default=None, gt=0)
    """Combinations that are tried; null: all of a grid, 8 of another search."""
    seeds: int = Field(default=1, gt=0)
    """Runs of a trial, with seeds seed, seed + 1, ...; its score is their mean."""
    metric: str = Field(default="evaluate/return", min_length=1)
    """What is optimised; evaluate/return of a run that has ended is its final evaluation."""
    mode: Literal["max", "min"] = "max"
    """Whether more of it is better, or less."""
    grace_steps: int = Field(default=10_000, gt=0)
    """asha: steps before a trial may be stopped; pbt: steps between copies of better trials."""
    reduction_factor: int = Field(default=3, ge=2)
    """asha: one in so many goes on at each rung; the rungs' steps grow by the same factor."""
    cpus_per_trial: float = Field(default=1.0, gt=0)
    """Processors that a trial reserves: as many run at once as the machines have room for."""
    gpus_per_trial: float = Field(default=0.0, ge=0)
    """GPUs that a trial reserves; a fraction shares one."""
    parameters: dict[str, Range] = Field(min_length=1)
    """The ranges by the key that they are for: KEY: {loguniform: [1e-4, 1e-2]}."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.scheduler == "pbt" and self.search == "optuna":
            raise ValueError("search=optuna: scheduler=pbt draws its values itself; use random")
        if self.search == "grid":
            endless = [key for key, range_ in self.parameters.items() if range_.choice is None]
            if endless:
                raise ValueError(f"search=grid: expected {endless[0]} to be a choice: [...]")
            if self.trials not in (None, self.combinations):
                raise ValueError(
                    f"trials={self.trials}: expected null or {self.combinations}, the grid's size"
                )
        return self

    @property
    def combinations(self) -> int:
        """Points of the grid."""
        return math.prod(len(range_.ends) for range_ in self.parameters.values())

    @property
    def size(self) -> int:
        """How many trials there are."""
        return self.trials or (self.combinations if self.search == "grid" else DEFAULT_TRIALS)

    def plan(self, seed: int) -> list[Parameters]:
        """The trials' values as far as they are known at the start: none with Optuna."""
        if self.search == "optuna":
            return []
        if self.search == "grid":
            every = itertools.product(*(range_.ends for range_ in self.parameters.values()))
            return [dict(zip(self.parameters, values, strict=True)) for values in every]
        rng = np.random.default_rng(seed)
        return [
            {key: range_.draw(rng) for key, range_ in self.parameters.items()}
            for _ in range(self.size)
        ]

    def corners(self, inside: Parameters) -> list[Parameters]:
        """Values at the ends of each range in turn, the others as `inside`."""
        ends = ((key, end) for key, range_ in self.parameters.items() for end in range_.ends)
        return [inside | {key: end} for key, end in ends]

    def rungs(self, total_steps: int) -> list[int]:
        """Steps at which a trial reports its score; there the scheduler decides how it goes on.

        Rung is the term of ASHA. The rungs of PBT are `grace_steps` apart.
        """
        found, step = [], self.grace_steps
        while self.scheduler != "none" and step < total_steps:
            found.append(step)
            step = step * self.reduction_factor if self.scheduler == "asha" else step + found[0]
        return [*found, total_steps]


def show(value: Any) -> str:
    """A value for people: Optuna's have 17 digits."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else brief(value)


def load_sweep(name: str, words: Iterable[Word] = ()) -> SweepConfig:
    """Reads `sweep=NAME` and what `sweep.KEY=VALUE` changes in it.

    Raises:
        ValueError: One line with the key, its value, what was expected and the nearest match.
    """
    data = read("sweep", name)
    if data is None:
        known = choices("sweep")
        hint = nearest(name, known)
        raise ValueError(f"sweep={name}: no such sweep{hint} (choices: {', '.join(known)})")
    own = [Word(word.key.removeprefix("sweep."), word.value, word.text) for word in words]
    for word in own:
        if word.section == "parameters":  # parameters.agent.gamma.choice: the key has dots itself
            key, _, kind = word.key.removeprefix("parameters.").rpartition(".")
            data.setdefault("parameters", {})[key] = {kind: word.value}
        else:
            put(data, word)
    try:
        return parse_sweep(data, {word.key: word.text for word in own})
    except ValueError as error:
        raise ValueError(f"sweep={name}: {error}") from error


def parse_sweep(data: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> SweepConfig:
    """Reads the mapping of a sweep, strictly; `texts` are values as they were typed, by key.

    Raises:
        ValueError: One line, as `load_sweep`.
    """
    schema, texts = schema_of(SweepConfig), texts or {}
    try:
        data = fitted(data, schema, texts)
        return SweepConfig.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ValueError(explain(error, schema, texts)[1]) from error
