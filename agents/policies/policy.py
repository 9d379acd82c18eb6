"""The policy: everything that a worker needs to act (weights, statistics, exploration)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.acting import ActFunction, ActResult
from ...core.action_mask import mask_at, mask_path, without
from ...core.tree import Tree, leaves, map_tree
from ...networks.backbone import Backbone
from ...networks.batch_norm import BatchRenorm
from ..learning.execution.numbers import Watched
from ..learning.execution.recorded import Recorded
from .normalize import Normalizer
from .prediction import Interface, PredictState, as_batch, known, opening, resumed


def differs_in_training(module: nn.Module) -> bool:
    """Whether `train()` changes what a module computes: dropout, batch normalisation."""
    return any(isinstance(m, _BatchNorm) or _drops(m) for m in module.modules())


def is_recordable(module: nn.Module) -> bool:
    """Whether what its layers do in an update can be recorded.

    Dropout cannot, nor PyTorch's batch normalisation: its operator does not tell that it changes
    the statistics. Batch renormalisation can.
    """
    layers = [layer for layer in module.modules() if not isinstance(layer, BatchRenorm)]
    return not any(isinstance(layer, _BatchNorm) or _drops(layer) for layer in layers)


def _drops(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Dropout) or bool(getattr(layer, "dropout", 0))


class Policy(nn.Module):
    """What acts. Its memory is an argument and a result; its random numbers are an argument.

    A mask among the observations is not for the network: `inputs` leaves it out, and what `forward`
    returns is masked by `mask`, so that targets and losses need no code for it.
    """

    noise_size: int
    """K, the number of random numbers that one action takes."""
    teaches: ClassVar[bool] = True
    """Whether `forward` gives a distribution or values, from which a student can learn."""
    interface: Interface | None = None
    """What stands between an environment and the policy; None: only its spaces are known."""

    def __init__(
        self,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        normalize: bool,
    ) -> None:
        super().__init__()
        self.observation_space, self.action_space = observation_space, action_space
        self.mask_path = mask_path(observation_space)
        space = without(observation_space, self.mask_path)
        self.normalizer = Normalizer(space) if normalize else None
        self.input_space = self.normalizer.space if self.normalizer else space

    def initial_state(self, batch: int) -> Tree:
        """The memory of `batch` columns before their first step: a tree of [*, B, *], or ()."""
        raise NotImplementedError

    def noise(self, uniform: Tensor, columns: Tensor | None = None) -> Tensor:
        """Makes the noise that `act` takes from uniform numbers, for a whole rollout at once.

        Args:
            uniform: [..., B, K], in [0, 1).
            columns: [B] int: the number of each column, for exploration that differs between them;
                None: nothing differs.
        """
        return uniform

    def act(
        self,
        obs: Tree,
        state: Tree,
        first: Tensor,
        noise: Tensor | None = None,
        greedy: bool = False,
    ) -> ActResult:
        """Chooses one action a column.

        Args:
            obs: Tree of [B, *obs].
            state: Memory, tree of [*, B, *].
            first: [B] bool: the observation opens an episode.
            noise: [B, *], of the method `noise`; drawn from torch's generator when None.
            greedy: The most likely (or most valued) action, without exploration.

        Returns:
            action [B, *act], extras {name: [B, ...]}, and the memory after obs.
        """
        raise NotImplementedError

    def predict(
        self,
        obs: Any,
        state: PredictState | None = None,
        episode_start: Any = None,
        deterministic: bool = True,
        action_mask: Any = None,
        reward: Any = None,
    ) -> tuple[Any, PredictState]:
        """Chooses actions for an environment that you step yourself; call it in eval mode.

        Arguments are those of Stable-Baselines3's `predict`, whose `evaluate_policy` calls it.
        Everything that training puts between environment and agent is applied: frame stacks, masks,
        scaled and clipped actions, actions that do not count from 0. The preprocessing of Atari's
        games is the exception: it takes the frames that `env=atari` makes.

        Args:
            obs: As the environment gave it, in NumPy: one observation, or a batch of B. Of a stack
                of frames, the newest frame.
            state: What the last call returned; None at the start, and for a new episode.
            episode_start: Which observations open an episode, bool or [B] bool; None: all without
                a state, none with one.
            deterministic: The best action; False: drawn as in training, but gSDE's noise is new in
                each step, and every column explores as the mean of them.
            action_mask: `info["action_mask"]`, where `env.action_mask=info`.
            reward: Of the last action, where `env.last_action=true`; [B] for a batch.

        Returns:
            The environment's own action, or B of them, and the state for the next call.

        Raises:
            ValueError: An argument does not fit the environment that the policy learned in.
        """
        interface = known(self.interface)
        rows, single = interface.rows(obs)
        batch = len(next(leaves(rows)))
        memory, past = resumed(state, self.initial_state(batch), batch)
        opens = opening(episode_start, state, batch)
        mask = as_batch(action_mask) if single else action_mask
        seen, past = interface.observe(rows, opens, past, mask, reward)
        chosen, memory = self._chosen(seen, memory, opens, deterministic)
        action = interface.to_environment(chosen)
        state = PredictState(memory, past._replace(action=chosen.copy()), batch)
        return (action[0] if single else action), state

    def _chosen(
        self, seen: Tree, memory: Tree, first: np.ndarray, greedy: bool
    ) -> tuple[np.ndarray, Tree]:
        """The agent's actions [B, *act] in NumPy, and the memory after them."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        given, opens = map_tree(lambda leaf: torch.as_tensor(leaf, device=device), (seen, first))
        with torch.inference_mode():
            action, _, memory = self.act(given, memory, opens, greedy=greedy)
        return action.cpu().numpy(), memory

    def act_functions(self, greedy: bool) -> Callable[[], ActFunction]:
        """See `core.acting.Actor`; what it returns is recorded if there is no memory."""
        act = functools.partial(self.act, greedy=greedy)
        if self.initial_state(1) != ():
            return lambda: act
        tensors = (*self.parameters(), *self.buffers())
        return Recorded(act, tensors, Watched(self)).for_one_geometry

    def inputs(self, obs: Tree) -> Tree:
        """Observations as the network gets them: without a mask, normalised by a normaliser."""
        obs = self.unmasked(obs)
        return obs if self.normalizer is None else self.normalizer(obs)

    def unmasked(self, obs: Tree) -> Tree:
        """Observations without their action mask."""
        return without(obs, self.mask_path)

    def mask(self, obs: Tree) -> Tensor | None:
        """The action mask [..., n] bool of observations, see `core.action_mask`; None: no mask."""
        return mask_at(obs, self.mask_path) != 0 if self.mask_path else None

    def _given_or_drawn(self, noise: Tensor | None, first: Tensor) -> Tensor:
        if noise is None:
            return self.noise(torch.rand(len(first), self.noise_size, device=first.device))
        return noise


class BackbonePolicy(Policy):
    """A policy on one backbone, which a subclass builds."""

    backbone: Backbone

    def initial_state(self, batch: int) -> Tree:
        """See `Policy.initial_state`: of the backbone."""
        return self.backbone.initial_state(batch)

    def features(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """Features [T, B, D] of observations, tree of [T, B, *obs], and the memory after them."""
        return self.backbone(self.inputs(obs), state, first)

    def features_of_one(self, obs: Tree, state: Tree, first: Tensor) -> tuple[Tensor, Tree]:
        """Features [B, D] of one step's observations, tree of [B, *obs], and the memory after."""
        obs = map_tree(lambda leaf: leaf[None], self.inputs(obs))
        y, state = self.backbone(obs, state, first[None])
        return y[0], state
