"""Where the tensors of an update stand, and what an agent may not list as its parts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuraxis.agents.learning.execution.execute import Places, check_parts
from neuraxis.agents.learning.optimizer import Optimizer
from neuraxis.agents.learning.terms import Terms


class Net(nn.Module):
    """A parameter, and buffers of which some lie in the memory of others."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6.0).view(2, 3))
        self.table = nn.Buffer(torch.arange(6.0).view(2, 3))
        self.turned = nn.Buffer(self.table.t())
        self.row = nn.Buffer(self.table[1])
        first, second = torch.arange(5.0).split([2, 3])  # no buffer is the whole of these
        self.first, self.second = nn.Buffer(second), nn.Buffer(first)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


def test_other_tensors_stand_in_the_places_as_the_first_did() -> None:
    """Views are the same views of the others, transposed ones and parts of a lost whole too."""
    net = Net()
    optimizer = Optimizer(net, learning_rate=0.1)
    places = Places([net, optimizer])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    originals = {name: id(tensor) for name, tensor in net.named_buffers()}
    with places.filled([base.detach() + 1 for base in places.bases]):
        assert not optimizer.fused
        for name, tensor in before.items():
            assert torch.equal(getattr(net, name), tensor + 1), name
        net.table.zero_()
        assert not net.turned.any() and not net.row.any()
        optimizer.flat.zero_()
        assert not net.weight.any()
    assert optimizer.fused
    assert originals == {name: id(tensor) for name, tensor in net.named_buffers()}
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_places_are_empty_again_after_an_error() -> None:
    net = Net()
    optimizer = Optimizer(net, learning_rate=0.1)
    places = Places([net, optimizer])
    before = dict(net.named_parameters()) | dict(net.named_buffers())
    with pytest.raises(ZeroDivisionError), places.filled([b.clone() for b in places.bases]):
        assert net.table is not before["table"]
        raise ZeroDivisionError
    after = dict(net.named_parameters()) | dict(net.named_buffers())
    assert all(after[name] is tensor for name, tensor in before.items())
    assert optimizer.fused and optimizer.parameters[0] is net.weight


def test_a_loss_that_fails_leaves_eval_mode() -> None:
    net = Net().eval()
    optimizer = Optimizer(net, learning_rate=0.1)

    def loss(batch: Any) -> tuple[Tensor, Terms]:
        assert net.training
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(loss, None)
    assert not net.training


def test_parts_hold_all_that_is_trained() -> None:
    """What is forgotten would be lost in a checkpoint, without a word."""
    net, other = Net(), Net()
    parts = {"policy": net, "optimizer": Optimizer(net, learning_rate=0.1)}
    check_parts(parts)
    parts["critic_optimizer"] = Optimizer(other, learning_rate=0.1)
    with pytest.raises(ValueError, match="critic_optimizer trains a module that is not in `parts`"):
        check_parts(parts)
    check_parts(parts | {"critic": nn.ModuleList([other])})


def test_two_optimizers_train_nothing_together() -> None:
    """The second moves the parameters to its own vector: the first would step a dead one."""
    body = nn.Linear(2, 2)
    actor, critic = nn.Sequential(body, nn.Linear(2, 1)), nn.Sequential(body, nn.Linear(2, 1))
    parts = {"actor": actor, "actor_optimizer": Optimizer(actor, learning_rate=0.1)}
    check_parts(parts)
    parts |= {"critic": critic, "critic_optimizer": Optimizer(critic, learning_rate=0.1)}
    with pytest.raises(ValueError, match="actor_optimizer shares parameters with another"):
        check_parts(parts)
