"""What a policy computes in each step, drawn beside the environment's picture.

panel = Panel(policy)      acts as the policy does
panel.extend(picture)      the picture, and beside it what the policy computed last
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..agents.policies.actor_critic import ActorCritic
from ..agents.policies.epsilon_greedy import EpsilonGreedy
from ..agents.policies.policy import Policy
from ..agents.policies.q_values import QPolicy
from ..agents.policies.softmax import SoftmaxPolicy
from ..core.acting import ActFunction, ActResult
from ..core.tree import Tree, map_tree
from ..networks.heads.discrete import INVALID, Categorical

WIDTH, LEAST_HEIGHT = 240, 320
"""Pixels of the panel, and of the whole picture."""
LINE, MARGIN, NAME, NUMBER = 20, 12, 40, 60
"""Pixels of a line of text, of the margins, and of the text before and after a bar."""
CURVE = 70
"""Pixels of the curve of values, and its steps are as many as fit."""
PROBABILITIES, VALUES, ACTION = "probabilities of actions", "values of actions", "action"
INK, FAINT, BAR, CHOSEN = "#202020", "#d8d8d8", "#9fb4cc", "#e07b28"


class Step(NamedTuple):
    """What a policy computed in one step."""

    what: str
    """What the numbers are."""
    numbers: np.ndarray
    """[A], one for each action, or for each part of an action; NaN where it is forbidden."""
    chosen: int | None
    """Which action was chosen, where the numbers are of actions."""
    value: float | None
    """The value of the state, if the policy has one."""


class Panel:
    """An actor that remembers what its policy computed for the first environment.

    Args:
        policy: Acts, on the CPU and in eval mode.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.noise_size = policy.noise_size
        self.initial_state, self.noise = policy.initial_state, policy.noise
        self._values: list[float] = []  # of the episode
        self._steps = 0
        self._step: Step | None = None
        self._limits = np.inf, -np.inf  # of all numbers so far
        self._font = ImageFont.load_default(14)

    def act_functions(self, greedy: bool) -> Callable[[], ActFunction]:
        """See `core.acting.Actor`."""
        begin = self._policy.act_functions(greedy)

        def watched() -> ActFunction:
            act = begin()

            def choose(obs: Tree, state: Tree, first: Tensor, noise: Tensor) -> ActResult:
                result = act(obs, state, first, noise)
                seen, action = map_tree(lambda leaf: leaf[:1], (obs, result[0]))
                memory = map_tree(lambda leaf: leaf[:, :1], state)
                step = computed(self._policy, seen, first[:1], memory, action)
                self._see(step, bool(first[0]))
                return result

            return choose

        return watched

    def _see(self, step: Step, first: bool) -> None:
        """Remembers a step; `first` opens an episode."""
        self._values = [] if first else self._values
        self._steps = 1 if first else self._steps + 1
        self._step = step
        if step.value is not None:
            self._values.append(step.value)
        low, high = self._limits
        self._limits = np.nanmin([low, *step.numbers]), np.nanmax([high, *step.numbers])

    def extend(self, picture: np.ndarray) -> np.ndarray:
        """The picture [H, W, 3] uint8 with the panel to the right of it; small ones grow."""
        times = -(-LEAST_HEIGHT // picture.shape[0])
        picture = picture.repeat(times, 0).repeat(times, 1)
        height, width = (size + size % 2 for size in picture.shape[:2])  # films need even sizes
        canvas = Image.new("RGB", (width + WIDTH, height), "white")
        canvas.paste(Image.fromarray(picture), (0, 0))
        if self._step is not None:
            self._draw(ImageDraw.Draw(canvas), self._step, width + MARGIN, height)
        return np.asarray(canvas)

    def _draw(self, draw: ImageDraw.ImageDraw, step: Step, left: int, height: int) -> None:
        right, top = left + WIDTH - 2 * MARGIN, MARGIN
        draw.text((left, top), f"step {self._steps}", INK, self._font)
        top += LINE
        if step.value is not None:
            draw.text((left, top), f"value of the state {step.value:.4g}", INK, self._font)
            self._curve(draw, left, top + LINE, right)
            top += LINE + CURVE + MARGIN
        draw.text((left, top), step.what, INK, self._font)
        rows = (height - top - MARGIN) // LINE - 1
        best = np.argsort(-np.nan_to_num(step.numbers, nan=-np.inf), kind="stable")[:rows]
        for place, index in enumerate(sorted(best.tolist()), start=1):
            self._bar(draw, step, index, (left, top + place * LINE), right)

    def _curve(self, draw: ImageDraw.ImageDraw, left: int, top: int, right: int) -> None:
        """The newest values, on a scale of their own."""
        draw.rectangle((left, top, right, top + CURVE), outline=FAINT)
        shown = np.array(self._values[left - right + 1 :])
        low, high = shown.min(), shown.max()
        heights = top + CURVE - 4 - (CURVE - 8) * (shown - low) / max(high - low, 1e-9)
        draw.line([(left + 1 + x, y) for x, y in enumerate(heights.tolist())], CHOSEN, 2)

    def _bar(
        self, draw: ImageDraw.ImageDraw, step: Step, index: int, at: tuple[int, int], right: int
    ) -> None:
        """The line of one action: its number, a bar, and how long that is."""
        left, top = at
        number, colour = step.numbers[index], CHOSEN if index == step.chosen else BAR
        draw.text((left, top), str(index), INK, self._font)
        if np.isnan(number):
            draw.text((left + NAME, top), "forbidden", FAINT, self._font)
            return
        low, high = (0.0, 1.0) if step.what == PROBABILITIES else self._limits
        length = (right - NUMBER - left - NAME) * (number - low) / max(high - low, 1e-9)
        draw.rectangle((left + NAME, top + 2, left + NAME + 2 + length, top + LINE - 4), colour)
        draw.text((right, top), f"{number:.3g}", INK, self._font, anchor="ra")


@torch.inference_mode()
def computed(policy: Policy, obs: Tree, first: Tensor, state: Tree, action: Tensor) -> Step:
    """What a policy computed for one environment.

    Args:
        policy: Has acted.
        obs: Tree of [1, *obs].
        first: [1] bool.
        state: Its memory before, tree of [*, 1, *].
        action: What it chose, [1, *act].
    """
    obs, first = map_tree(lambda leaf: leaf[None], (obs, first))
    what, numbers, chosen, value = ACTION, action.flatten(), None, None
    if isinstance(policy, ActorCritic):
        params, values, _ = policy(obs, state, first)
        value = values.item()
        if isinstance(policy.head, Categorical):
            what, numbers, chosen = PROBABILITIES, params[0, 0].exp(), int(action.item())
    elif isinstance(policy, EpsilonGreedy | SoftmaxPolicy):
        quiet: dict[str, Any] = {"noisy": False} if isinstance(policy, QPolicy) else {}
        what, numbers = VALUES, policy(obs, state, first, **quiet)[0][0, 0]
        if isinstance(policy, SoftmaxPolicy):
            what, numbers = PROBABILITIES, numbers.exp()
        else:
            value = numbers.max().item()
        chosen = int(policy.joint.index(action).item())
    shown = numbers.double().numpy()
    return Step(what, np.where(shown <= INVALID, np.nan, shown), chosen, value)
