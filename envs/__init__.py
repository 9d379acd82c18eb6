"""Environments: anything Gymnasium knows, as one vector form."""

from . import diagnostic as diagnostic
from .errors import EnvError
from .make import AtariConfig, EnvConfig, make
from .vector import Envs

__all__ = ["AtariConfig", "EnvConfig", "EnvError", "Envs", "diagnostic", "make"]
