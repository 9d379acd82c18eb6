"""Agents: policies that act, and how they learn from rollouts."""

from .agent import Agent
from .choices import agent_class, agent_names, build
from .setup import AgentConfig, Setup

__all__ = ["Agent", "AgentConfig", "Setup", "agent_class", "agent_names", "build"]
