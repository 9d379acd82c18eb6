"""The settings of agents that another policy teaches."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from .learning.schedules import Shape
from .setup import AgentConfig


class TeacherConfig(
    BaseModel,
    frozen=True,
    extra="forbid",
    use_attribute_docstrings=True,
    serialize_by_alias=True,
):
    """Who teaches, and for how long."""

    source: str | None = Field(default=None, alias="from", min_length=1)
    """The run whose policy teaches; null: nobody does."""
    checkpoint: str = "best"
    """Which checkpoint of that run: best, last or step_..."""
    coef: float = Field(default=1.0, gt=0)
    """Weight in the loss of the distance from what the teacher would do."""
    schedule: Shape = "linear"
    """How this weight falls to 0."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Share of the run after which it is 0; 1: it falls as `schedule` says, or never."""
    temperature: float = Field(default=0.01, gt=0)
    """Temperature of the softmax that turns a teacher's action values into probabilities."""

    @model_validator(mode="after")
    def _from_somebody(self) -> TeacherConfig:
        for name, field in type(self).model_fields.items() if self.source is None else ():
            if (value := getattr(self, name)) != field.default:
                raise ValueError(
                    f"{name}={value}: expected agent.teacher.from, the run whose policy teaches"
                )
        return self


class ValueTeacherConfig(TeacherConfig, frozen=True):
    """Who teaches an agent that learns action values."""

    form: Literal["margin", "kl"] = "margin"
    """margin: the value of the teacher's action shall lead by `margin` (as in DQfD); kl: the
    softmax of the values divided by `temperature` shall be the teacher's."""
    margin: float = Field(default=0.8, gt=0)
    """How far the teacher's action shall lead (unused with form=kl)."""


class ImitationConfig(TeacherConfig, frozen=True):
    """Who teaches an agent that learns from nothing else."""

    schedule: Shape = "constant"
    """How the weight of the distance falls to 0."""


class TaughtConfig(AgentConfig, frozen=True):
    """Settings of every agent that another policy may teach."""

    teacher: TeacherConfig = TeacherConfig()
    """A policy that advises on the states that the agent visits."""
