"""Agents: policies that act, and how they learn from rollouts."""

from .agent import Agent, AgentConfig, Setup, agent_class, agent_names, build

__all__ = ["Agent", "AgentConfig", "Setup", "agent_class", "agent_names", "build"]
