"""The laws of backbones, over every block found in networks/, and the encoder of observations."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from neuraxis.core.tree import leaves, map_tree
from neuraxis.networks import (
    Backbone,
    BlockConfig,
    NetworkConfig,
    block_class,
    block_names,
    build,
    twice,
)
from neuraxis.networks.gru import GRULayer
from neuraxis.networks.mlp import MLP

T, B = 12, 5
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mlp": [
        {"norm": "layer", "sizes": (8, 4)},
        {"norm": "batch", "activation": "gelu"},
        {"norm": "batch_renorm", "norm_inputs": True, "sizes": (8, 4)},
        {"weight_norm": "spectral", "norm": "layer"},
        {"weight_norm": "weight"},
    ],
    "cnn": [
        {"architecture": "small", "norm": "layer", "pooling": "max"},
        {"architecture": "impala", "norm": "batch", "pooling": "global"},
        {"architecture": "small", "norm": "batch_renorm"},
        {"architecture": "impala", "pooling": "avg", "init": "kaiming"},
        {"architecture": "small", "weight_norm": "spectral"},
        {"architecture": "impala", "weight_norm": "weight", "norm": "batch"},
    ],
    "lstm": [{"size": 8, "layers": 2, "norm": "layer"}],
    "gru": [{"size": 8, "layers": 2, "init": "xavier"}],
    "transformer": [
        {"size": 8, "heads": 2, "memory": 3, "layers": 3},
        {"size": 8, "heads": 1, "memory": 20, "gating": "gru"},
        {"size": 8, "heads": 2, "memory": 3, "weight_norm": "spectral"},
        {"size": 8, "heads": 2, "memory": 3, "weight_norm": "weight", "gating": "gru"},
    ],
}  # besides each block's default


def variants() -> Iterator[Any]:
    for name in block_names():
        default = {"architecture": "small"} if name == "cnn" else {}
        for fields in [default, *VARIANTS.get(name, [])]:
            words = "-".join(f"{key}={value}" for key, value in fields.items())
            yield pytest.param((name, fields), id=f"{name}-{words}")


@pytest.fixture(params=variants())
def block(request: pytest.FixtureRequest) -> Backbone:
    """A block in eval mode, with weights away from special start values such as zero."""
    torch.manual_seed(0)
    name, fields = request.param
    cls = block_class(name)
    block = cls(cls.Config(name=name, **fields), in_shape(cls)).eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def in_shape(cls: type[Backbone]) -> tuple[int, ...]:
    return (4, 10, 10) if cls.reads_images else (6,)


def inputs(block: Backbone, length: int = T) -> tuple[Tensor, Any, Tensor]:
    """x, a state that has seen something, and first with resets inside but not at row 0."""
    shape = in_shape(type(block))
    never = torch.zeros(7, B, dtype=torch.bool)
    _, state = block(torch.randn(7, B, *shape), block.initial_state(B), never)
    state = map_tree(Tensor.detach, state)
    first = torch.rand(length, B) < 0.15
    first[0] = False
    first[length // 2, 0] = True
    return torch.randn(length, B, *shape), state, first


def assert_close(actual: Any, expected: Any) -> None:
    for a, e in zip(leaves(actual), leaves(expected), strict=True):
        torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-4)


def test_every_block_has_one_line_of_documentation() -> None:
    for cls in map(block_class, block_names()):
        assert cls.__doc__ and cls.__doc__.strip().partition("\n")[0].endswith(".")


def test_unrolling_equals_single_steps(block: Backbone) -> None:
    x, state, first = inputs(block)
    y, after = block(x, state, first)
    assert y.shape == (T, B, block.out_size)
    steps = []
    for t in range(T):
        step, state = block(x[t : t + 1], state, first[t : t + 1])
        steps.append(step)
    assert_close(torch.cat(steps), y)
    assert_close(state, after)


def test_unrolling_equals_two_halves(block: Backbone) -> None:
    x, state, first = inputs(block)
    y, after = block(x, state, first)
    half = T // 2  # a column resets there
    early, middle = block(x[:half], state, first[:half])
    late, end = block(x[half:], middle, first[half:])
    assert_close((torch.cat((early, late)), end), (y, after))


def test_after_first_nothing_before_matters(block: Backbone) -> None:
    x, state, first = inputs(block)
    first[6] = True
    y, after = block(x, state, first)
    other = x.clone()
    other[:6] = torch.randn_like(other[:6])
    y2, after2 = block(other, block.initial_state(B), first)
    assert torch.equal(y[6:], y2[6:])
    if block.initial_state(1) != ():
        assert not torch.equal(y[:6], y2[:6])
    never = torch.zeros(T, B, dtype=torch.bool)  # the two states may differ in what is not read
    assert torch.equal(block(x, after, never)[0], block(x, after2, never)[0])


def test_gradients_do_not_cross_first(block: Backbone) -> None:
    x, state, first = inputs(block)
    first[6] = False
    first[6, :3] = True
    x.requires_grad_()
    y, _ = block(x, state, first)
    (grad,) = torch.autograd.grad(y[6:].square().sum(), x)
    assert not grad[:6, :3].any()
    if block.initial_state(1) != ():
        assert grad[5, 3:].any()
    assert grad[6:, :3].any()


def in_pytorchs_layers(block: Any, x: Tensor, state: Any, first: Tensor) -> tuple[Any, ...]:
    """What `nn.LSTM` or `nn.GRU` make of one column's episodes, each by itself."""
    openings = first.flatten().nonzero().flatten().tolist()
    outputs, last, lstm = [], state, len(state) == 2
    for start, stop in zip([0, *openings], [*openings, len(x)], strict=True):
        y, after = block.core(x[start:stop], state if lstm else state[0])
        outputs.append(y)
        last = after if lstm else (after,)
        state = block.initial_state(1)
    return torch.cat(outputs), *last


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("resets", ["in some columns", "in all columns", "nowhere"])
def test_a_stream_is_its_episodes(name: str, layers: int, resets: str) -> None:
    cls = block_class(name)
    fields = {"name": name, "size": 8, "layers": layers, "timescale": 9}
    block: Any = cls(cls.Config.model_validate(fields), (6,))
    x, state, first = inputs(block)
    first[1:, 1] = True  # an episode a step
    first[:, 2:] = False
    if resets == "in all columns":
        first[1, 0], first[T - 1] = True, True  # not equally many
    elif resets == "nowhere":
        first[:] = False
    tensors = [x.requires_grad_(), *(part.requires_grad_() for part in state)]
    tensors += block.core.parameters()
    y, after = block(x, state, first)
    columns = [slice(column, column + 1) for column in range(B)]
    apart = [
        in_pytorchs_layers(block, x[:, c], tuple(part[:, c] for part in state), first[:, c])
        for c in columns
    ]
    expected = [torch.cat(parts, 1) for parts in zip(*apart, strict=True)]
    assert_close([y, *after], expected)
    weights = [torch.randn_like(part) for part in expected]

    def gradients(outputs: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, tensors, weights)

    assert_close(gradients([y, *after]), gradients(expected))


def test_gradients_have_gradients(block: Backbone) -> None:
    """TRPO multiplies by a matrix of second derivatives, which is symmetric.

    Where a gradient takes for constant what is not, it is not.
    """
    x, state, first = inputs(block)
    parameters = list(block.parameters())
    with twice.kernels(block):
        y, _ = block(x, state, first)
    gradient = torch.autograd.grad(
        y.sin().mean(), parameters, create_graph=True, materialize_grads=True
    )
    one, two = ([torch.randn_like(parameter) for parameter in parameters] for _ in range(2))

    def product(vector: list[Tensor]) -> tuple[Tensor, ...]:
        slope = torch.stack([(g * v).sum() for g, v in zip(gradient, vector, strict=True)]).sum()
        return torch.autograd.grad(slope, parameters, retain_graph=True, materialize_grads=True)

    pairs = ((one, product(two)), (two, product(one)))
    found, other = (sum((a * b).sum() for a, b in zip(*pair, strict=True)) for pair in pairs)
    assert float(found) == pytest.approx(float(other), rel=1e-3) and abs(found) > 1e-3


def test_kernels_for_second_gradients_are_those_of_one_thread_only() -> None:
    """Two threads leave them in the order in which they came; a third one knows nothing of it."""
    cls = block_class("transformer")
    block = cls(cls.Config(name="transformer"), in_shape(cls)).eval()
    x, state, first = inputs(block)
    expected, _ = block(x, state, first)
    one, other = twice.kernels(block), twice.kernels(block)
    with ThreadPoolExecutor(1) as first_thread, ThreadPoolExecutor(1) as second_thread:
        first_thread.submit(one.__enter__).result()
        second_thread.submit(other.__enter__).result()
        assert torch.equal(block(x, state, first)[0], expected)
        first_thread.submit(one.__exit__, None, None, None).result()
        second_thread.submit(other.__exit__, None, None, None).result()
    assert torch.equal(block(x, state, first)[0], expected)
    assert torch.backends.cuda.flash_sdp_enabled()  # of the CPU, too


def test_a_gru_layer_keeps_float32_under_autocast() -> None:
    torch.manual_seed(0)
    sizes = (T, B, 6), (B, 8), (24, 6), (24, 8), (24,), (24,)
    tensors = [torch.randn(size).requires_grad_() for size in sizes]
    expected = torch.autograd.grad(GRULayer.apply(*tensors).square().sum(), tensors)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(GRULayer.apply(*tensors).square().sum(), tensors)
    for grad, other in zip(found, expected, strict=True):
        assert torch.equal(grad, other)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_dropout_lies_between_layers(name: str) -> None:
    for layers, differ in ((1, False), (2, True)):
        cls = block_class(name)
        fields = {"name": name, "size": 8, "layers": layers, "dropout": 0.5}
        block: Any = cls(cls.Config.model_validate(fields), (6,))
        block.tail = nn.Identity()
        x, state, first = inputs(block)
        assert torch.equal(block(x, state, first)[0], block(x, state, first)[0]) != differ
        block.eval()
        assert torch.equal(block(x, state, first)[0], block(x, state, first)[0])


def test_gradient_flows_to_every_parameter(block: Backbone) -> None:
    x, state, first = inputs(block)
    block.train()
    y, _ = block(x, state, first)
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_batch_is_axis_1_of_the_state(block: Backbone) -> None:
    x, state, first = inputs(block)
    order = torch.randperm(B)
    y, after = block(x, state, first)
    y2, after2 = block(x[:, order], map_tree(lambda s: s[:, order], state), first[:, order])
    assert_close((y2, after2), (y[:, order], map_tree(lambda s: s[:, order], after)))
    for part in leaves(state):
        assert part.shape[1] == B


def test_the_state_given_is_not_changed(block: Backbone) -> None:
    x, state, first = inputs(block)
    copy = map_tree(Tensor.clone, state)
    block(x[:1], state, first[:1])
    block(x, state, first)
    assert_close(state, copy)


@pytest.mark.parametrize("name", block_names())
def test_dropout_acts_in_training_only(name: str) -> None:
    cls = block_class(name)
    fields = {"architecture": "small"} if name == "cnn" else {}
    block = cls(cls.Config.model_validate({"dropout": 0.5, **fields}), in_shape(cls))
    x, state, first = inputs(block.eval())
    assert torch.equal(block(x, state, first)[0], block(x, state, first)[0])
    block.train()
    assert not torch.equal(block(x, state, first)[0], block(x, state, first)[0])


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_layers_in_one_node_are_the_layers(activation: Any) -> None:
    """Values and all gradients of the fused stack, of a copy too, are those of its modules."""
    block = copy.deepcopy(MLP(MLP.Config(sizes=(7, 3), activation=activation), (5,)))
    x, seed = torch.randn(4, 6, 5, requires_grad=True), torch.randn(4, 6, 3)
    wanted = [x, *block.parameters()]
    fused, plain = block(x, (), torch.zeros(4, 6))[0], block.layers(x)
    assert bool(block.fused) == (type(fused.grad_fn) is not type(plain.grad_fn))
    assert torch.allclose(fused, plain, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(block(x, (), torch.zeros(4, 6))[0], fused)
    pairs = zip(*(torch.autograd.grad(y, wanted, seed) for y in (fused, plain)), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_batch_norm_moves_in_training_only() -> None:
    block = MLP(MLP.Config(norm="batch", sizes=(3,)), (6,))
    x, state, first = inputs(block.eval())
    before = {key: value.clone() for key, value in block.named_buffers()}
    block(x, state, first)
    assert all(torch.equal(value, before[key]) for key, value in block.named_buffers())
    block.train()
    y = block.layers[1](block.layers[0](x))
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    assert not torch.equal(
        block.get_buffer("layers.1.running_mean"), before["layers.1.running_mean"]
    )


def test_orthogonal_start() -> None:
    cls = block_class("lstm")
    lstm = cls(cls.Config.model_validate({"size": 16}), (16,))
    weights = dict(lstm.named_parameters())
    recurrent = weights["core.weight_hh_l0"]
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(16), atol=1e-5, rtol=0)
    assert not weights["core.bias_ih_l0"].any() and not weights["core.bias_hh_l0"].any()
    mlp = MLP(MLP.Config(sizes=(6,)), (6,))
    weight = mlp.get_parameter("layers.0.weight")
    torch.testing.assert_close(weight @ weight.T, 2.0 * torch.eye(6), atol=1e-5, rtol=0)


def test_transformer_sees_its_window_and_no_more() -> None:
    cls = block_class("transformer")
    config = cls.Config.model_validate({"layers": 1, "memory": 3, "size": 8, "heads": 2})
    block = cls(config, (6,)).eval()
    x = torch.randn(T, 1, 6, requires_grad=True)
    y, _ = block(x, block.initial_state(1), torch.zeros(T, 1, dtype=torch.bool))
    (grad,) = torch.autograd.grad(y[8].square().sum(), x)
    assert grad[:, 0].any(-1).nonzero().flatten().tolist() == [5, 6, 7, 8]


def test_gru_gate_starts_near_the_identity() -> None:
    cls = block_class("transformer")
    x = torch.randn(T, B, 6)
    never = torch.zeros(T, B, dtype=torch.bool)
    moved = {}
    for gating in ("none", "gru"):
        torch.manual_seed(0)
        block = cls(cls.Config.model_validate({"gating": gating}), (6,)).eval()
        start = nn.functional.layer_norm(block.get_submodule("embed")(x), (64,))
        y, _ = block(x, block.initial_state(B), never)
        moved[gating] = (y - start).norm()
    assert moved["gru"] < 0.5 * moved["none"]


# Observations


def encode(space: spaces.Space, *blocks: dict[str, Any], length: int = 2) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    net = build(NetworkConfig.model_validate({"blocks": blocks}).blocks, space).eval()
    x = sample(space, length)
    y, _ = net(x, net.initial_state(3), torch.zeros(length, 3, dtype=torch.bool))
    assert y.shape == (length, 3, net.out_size)
    return x, y


def sample(space: spaces.Space, length: int) -> Any:
    """A tree of tensors [length, 3, *]."""
    space.seed(0)
    rows = [[space.sample() for _ in range(3)] for _ in range(length)]

    def stack(*leaf: Any) -> Tensor:
        array = np.stack([np.asarray(value) for value in leaf])
        return torch.as_tensor(array.reshape(length, 3, *array.shape[1:]))

    flat = [column for row in rows for column in row]
    return map_tree(stack, as_tree(flat[0]), *map(as_tree, flat[1:]))


def as_tree(value: Any) -> Any:
    return {key: as_tree(part) for key, part in value.items()} if isinstance(value, dict) else value


def test_box_is_flattened() -> None:
    x, y = encode(spaces.Box(-1, 1, (2, 3)))
    assert torch.equal(y, x.flatten(2))
    x, y = encode(spaces.Box(-9, 9, (2,), np.int64))
    assert torch.equal(y, x.float()) and y.dtype == torch.float32
    x, y = encode(spaces.Box(-1, 1, ()))
    assert torch.equal(y, x.unsqueeze(-1))


def test_discrete_is_one_hot() -> None:
    x, y = encode(spaces.Discrete(4))
    assert torch.equal(y, nn.functional.one_hot(x, 4).float())
    x, y = encode(spaces.MultiDiscrete([3, 2]))
    parts = nn.functional.one_hot(x[..., 0], 3), nn.functional.one_hot(x[..., 1], 2)
    assert torch.equal(y, torch.cat(parts, -1).float())


def test_multi_binary_is_float() -> None:
    x, y = encode(spaces.MultiBinary(5))
    assert torch.equal(y, x.float())


def test_bytes_are_divided_by_high() -> None:
    x, y = encode(spaces.Box(0, 255, (8, 8, 3), np.uint8))
    torch.testing.assert_close(y, x.flatten(2) / 255)
    x, y = encode(spaces.Box(0, 255, (128,), np.uint8))
    torch.testing.assert_close(y, x / 255)
    high = np.broadcast_to(np.array([10, 5, 2], np.uint8), (7, 7, 3))
    x, y = encode(spaces.Box(np.zeros_like(high), high, dtype=np.uint8))
    torch.testing.assert_close(y, (x / torch.tensor([10.0, 5.0, 2.0])).flatten(2))


def test_dict_and_tuple_are_concatenated() -> None:
    box = spaces.Box(-1, 1, (2,))
    x, y = encode(spaces.Dict({"b": box, "a": spaces.Tuple([spaces.Discrete(3), box])}))
    one_hot = nn.functional.one_hot(x["a"][0], 3)
    assert torch.equal(y, torch.cat((one_hot, x["a"][1], x["b"]), -1))


CNN = {"name": "cnn", "architecture": "small", "size": 16}


@pytest.mark.parametrize("side", [7, 10])
@pytest.mark.parametrize("high", ["equal", "by channel"])
def test_images_in_hwc_and_chw_are_equal(side: int, high: str) -> None:
    top = np.full((side, side, 3), 255, np.uint8)
    top[..., 0] = 10 if high == "by channel" else 255
    hwc = spaces.Box(np.zeros_like(top), top, dtype=np.uint8)
    chw = spaces.Box(hwc.low.transpose(2, 0, 1), hwc.high.transpose(2, 0, 1), dtype=np.uint8)
    first = torch.zeros(2, 3, dtype=torch.bool)
    x = sample(hwc, 2)
    y = []
    for space, image in ((hwc, x), (chw, x.movedim(-1, 2))):
        torch.manual_seed(0)
        net = build(NetworkConfig.model_validate({"blocks": [CNN]}).blocks, space).eval()
        y.append(net(image, (), first)[0])
    torch.testing.assert_close(y[0], y[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(10, 10, 4), (4, 84, 84), (3, 20, 30), (20, 30, 3), (12, 9)])
def test_the_channel_axis_is_found(shape: tuple[int, ...]) -> None:
    net = build(
        NetworkConfig.model_validate({"blocks": [CNN]}).blocks,
        spaces.Box(0, 255, shape, np.uint8),
    )
    first_convolution = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert first_convolution.in_channels == (min(shape) if len(shape) == 3 else 1)


def test_cnn_then_lstm_on_a_dict() -> None:
    space = spaces.Dict(
        {
            "image": spaces.Box(0, 10, (7, 7, 3), np.uint8),
            "direction": spaces.Discrete(4),
            "camera": spaces.Box(0, 255, (9, 9), np.uint8),
        }
    )
    config = NetworkConfig.model_validate({"blocks": [CNN, {"name": "lstm", "size": 8}]})
    net = build(config.blocks, space).eval()
    assert net.encoder.out_size == 16 + 16 + 4 and net.out_size == 8
    x = sample(space, 4)
    state = net.initial_state(3)
    first = torch.zeros(4, 3, dtype=torch.bool)
    first[2, 1] = True
    y, after = net(x, state, first)
    for t in range(4):
        row = map_tree(lambda leaf, t=t: leaf[t : t + 1], x)
        step, state = net(row, state, first[t : t + 1])
        assert_close(step[0], y[t])
    assert_close(state, after)


def test_chain_of_every_memory() -> None:
    blocks = [{"name": "gru", "size": 8}, {"name": "mlp"}, {"name": "transformer", "memory": 4}]
    net = build(NetworkConfig.model_validate({"blocks": blocks}).blocks, spaces.Box(-1, 1, (6,)))
    state = net.initial_state(B)
    assert [part.shape[1] for part in leaves(state)] == [B] * 4 and state[1] == ()
    y, after = net(torch.randn(T, B, 6), state, torch.rand(T, B) < 0.2)
    assert y.shape == (T, B, 64)
    assert [part.shape for part in leaves(after)] == [part.shape for part in leaves(state)]


def test_without_memory_the_state_is_empty() -> None:
    net = build(NetworkConfig().blocks, spaces.Box(-1, 1, (6,)))
    assert net.initial_state(B) == () and not net.has_memory


# Errors and configs


@pytest.mark.parametrize(
    ("space", "blocks", "message"),
    [
        (spaces.Box(-1, 1, (4,)), [CNN], "no image in Box"),
        (spaces.Text(5), [{"name": "mlp"}], "no encoder for Text"),
        (
            spaces.Box(0, 255, (10, 10, 3), np.uint8),
            [{**CNN, "architecture": "nature"}],
            "10x10 pixels",
        ),
        (spaces.Box(0, 255, (10, 10, 3), np.uint8), [{"name": "mlp"}, CNN], "must be the first"),
        (
            spaces.Box(0, 255, (5, 5, 3), np.uint8),
            [{**CNN, "pooling": "max"}],
            "too small for architecture=small, pooling=max",
        ),
    ],
)
def test_impossible_networks(space: gymnasium.Space, blocks: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        build(NetworkConfig.model_validate({"blocks": blocks}).blocks, space)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"name": "lsmt"}, "block 'lsmt': no such block; did you mean lstm?"),
        ({"name": "zzz"}, "choices: cnn, gru, lstm, mlp, transformer"),
        ({"name": "lstm", "siez": 3}, "has no field 'siez'; did you mean size?"),
        ({"name": "lstm", "size": 0}, "size=0: Input should be greater than 0"),
        ({"name": "transformer", "size": 6}, "size=6 is not a multiple of heads=4"),
        ({"size": 3}, "expected a block like"),
        ({"name": "no_such_package.block"}, "ModuleNotFoundError: No module named"),
        (
            {"name": "neuraxis.networks.recurrent"},
            "one subclass of Backbone and its Config inside, found 0",
        ),
    ],
)
def test_wrong_blocks(block: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkConfig.model_validate({"blocks": [block]})


def test_network_config_round_trip() -> None:
    config = NetworkConfig.model_validate(
        {"blocks": [CNN, {"name": "lstm", "size": 32}], "shared": True}
    )
    dump = config.model_dump(mode="json")
    assert dump["blocks"][1]["size"] == 32 and dump["blocks"][0]["architecture"] == "small"
    assert NetworkConfig.model_validate(dump) == config


def test_a_block_of_your_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Double(Backbone):
        """Twice the input."""

        class Config(BlockConfig, frozen=True):
            name: str = "own_package.double"
            factor: float = 2.0

        def __init__(self, config: Config, in_shape: tuple[int, ...]) -> None:
            super().__init__(config, in_shape)
            self.factor, (self.out_size,) = config.factor, in_shape

        def forward(self, x: Tensor, state: Any, first: Tensor) -> tuple[Tensor, Any]:
            return self.factor * x, state

    module = types.ModuleType("own_package.double")
    Double.__module__ = "own_package.double"
    vars(module)["Double"] = Double
    monkeypatch.setitem(sys.modules, "own_package", types.ModuleType("own_package"))
    monkeypatch.setitem(sys.modules, "own_package.double", module)
    config = NetworkConfig.model_validate({"blocks": [{"name": "own_package.double"}]})
    net = build(config.blocks, spaces.Box(-1, 1, (2,)))
    y, _ = net(torch.ones(1, 1, 2), (), torch.zeros(1, 1, dtype=torch.bool))
    assert y.tolist() == [[[2.0, 2.0]]]
