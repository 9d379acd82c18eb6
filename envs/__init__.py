"""Environments: anything Gymnasium knows, as one vector form."""

from ..core.errors import EnvError
from .builtin import background as background
from .builtin import diagnostic as diagnostic
from .builtin import dynamics as dynamics
from .builtin import goals as goals
from .builtin import masked as masked
from .config import AtariConfig, EnvConfig
from .make import make
from .vector import Envs

__all__ = ["AtariConfig", "EnvConfig", "EnvError", "Envs", "diagnostic", "goals", "make"]
