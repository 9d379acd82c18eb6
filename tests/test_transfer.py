"""From tensors by name to tensors by name: what is loaded, what is refused, what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuraxis.networks.transfer.patterns import collapsed
from neuraxis.networks.transfer.report import Report
from neuraxis.networks.transfer.transfer import InitConfig, transfer

Shapes = dict[str, tuple[int, ...]]

LAYER = "blocks.0.layers.0"
MLP: Shapes = {f"{LAYER}.weight": (3, 2), f"{LAYER}.bias": (3,)}
HEAD: Shapes = {"head.weight": (2, 3), "head.bias": (2,)}
SEEN = {"count": (), "mean": (2,), "variance": (2,)}


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def numbers(shapes: Shapes, start: float) -> dict[str, Tensor]:
    """Parameters (buffers where their names are those of statistics), all numbers different."""
    found: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        value = torch.arange(start, start + count).reshape(shape)
        found[name] = value if "normalizer." in name else nn.Parameter(value)
        start += count
    return found


def loaded(
    there: Shapes,
    here: Shapes,
    packed: tuple[str, ...] = (),
    unlike: dict[str, str] | None = None,
    **init: Any,
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], Report]:
    """Tensors there and here, what those here become, and the report."""
    config = InitConfig.model_validate({"from": "somewhere", **init})
    given, built = numbers(there, 1000.0), numbers(here, 0.0)
    before = {name: x.detach().clone() for name, x in built.items()}
    state = torch.get_rng_state()
    values, report = transfer(given, built, config, packed, unlike or {})
    assert torch.equal(torch.get_rng_state(), state), "no random numbers are drawn"
    assert all(torch.equal(before[name], x) for name, x in built.items()), "nothing is changed"
    assert {*values} == {*report.loaded} and not {*values} & {*report.new}
    assert all(values[name].shape == built[name].shape for name in values)
    return given, built, values, report


def refused(there: Shapes, here: Shapes, **init: Any) -> str:
    with pytest.raises(ValueError) as error:
        loaded(there, here, **init)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_tensors_of_one_name_and_shape_are_those_there() -> None:
    shapes = under("backbone", MLP) | HEAD
    there, _, values, report = loaded(shapes, shapes)
    assert all(torch.equal(values[name], there[name]) for name in shapes)
    assert (report.parameters, report.total) == (17, 17)
    assert not report.new and not report.skipped and not report.sliced


def test_what_only_one_has_is_new_or_not_used() -> None:
    there, here = under("backbone", MLP) | {"advantage.bias": (2,)}, under("backbone", MLP) | HEAD
    _, _, values, report = loaded(there, here)
    assert {*values} == {*under("backbone", MLP)}
    assert (report.new, report.skipped) == ([*HEAD], ["advantage.bias"])
    assert (report.parameters, report.total) == (9, 17)


FIRST = {f"backbone.{LAYER}.weight": (3, 4), f"backbone.{LAYER}.bias": (3,)}
NEXT = {"backbone.blocks.0.layers.2.weight": (2, 3)}


def test_another_shape_is_refused_by_default() -> None:
    says = refused(under("backbone", MLP) | NEXT, FIRST | NEXT)
    assert f"backbone.{LAYER}.weight has the shape [3, 2] there and [3, 4] here; take" in says
    assert "init.shapes=skip, new or slice" in says
    assert "and 1 more differ" in refused(
        under("backbone", MLP),
        under("backbone", {f"{LAYER}.weight": (4, 2), f"{LAYER}.bias": (4,)}),
    )


@pytest.mark.parametrize(
    ("shapes", "new", "parameters"),
    [
        ("skip", [f"backbone.{LAYER}.weight"], 3 + 6),
        ("new", [f"backbone.{LAYER}.weight", f"backbone.{LAYER}.bias"], 6),
        ("slice", [], 3 * 2 + 3 + 6),
    ],
)
def test_another_shape_is_skipped_new_or_sliced(
    shapes: str, new: list[str], parameters: int
) -> None:
    _, _, values, report = loaded(under("backbone", MLP) | NEXT, FIRST | NEXT, shapes=shapes)
    assert report.new == new and report.parameters == parameters
    assert {*values} == {*FIRST, *NEXT} - {*new}


def test_a_slice_is_the_rows_and_columns_that_both_have() -> None:
    name = f"backbone.{LAYER}.weight"
    there, here, values, report = loaded({name: (2, 3)}, {name: (3, 2)}, shapes="slice")
    expected = torch.cat((there[name][:, :2], here[name][2:]))
    assert torch.equal(values[name], expected)
    assert report.sliced == [name] and report.parameters == 4


def test_packed_rows_are_not_sliced_but_their_columns_are() -> None:
    name = "backbone.blocks.0.core.weight_ih_l0"
    for there, here, sliced in (((6, 4), (6, 5), [name]), ((6, 4), (9, 4), [])):
        _, _, _, report = loaded(
            {name: there} | NEXT, {name: here} | NEXT, packed=(name,), shapes="slice"
        )
        assert report.sliced == sliced


def test_what_is_of_other_actions_is_as_of_another_shape() -> None:
    shapes, unlike = under("backbone", MLP) | HEAD, dict.fromkeys(HEAD, "is of other actions there")
    assert "head.weight is of other actions there, and 1 more" in refused(
        shapes, shapes, unlike=unlike
    )
    for words in ("skip", "new", "slice"):
        *_, report = loaded(shapes, shapes, unlike=unlike, shapes=words)
        assert report.new == [*HEAD]


CHAINS = {
    "q to actor and critic": ("backbone", ["actor", "critic"], ["backbone", "backbone"]),
    "shared to two": ("actor", ["actor", "critic"], ["actor", "actor"]),
    "q to shared": ("backbone", ["actor"], ["backbone"]),
    "actor to q": ("actor", ["backbone"], ["actor"]),
}


@pytest.mark.parametrize(("there", "here", "origin"), CHAINS.values(), ids=CHAINS)
def test_a_backbone_starts_from_the_one_there(
    there: str, here: list[str], origin: list[str]
) -> None:
    *_, report = loaded(under(there, MLP), {k: v for x in here for k, v in under(x, MLP).items()})
    names = [f"{x}.{name}" for x in origin for name in MLP]
    assert [*report.loaded.values()] == names and not report.new


def test_two_backbones_to_one_are_the_actors() -> None:
    *_, report = loaded(under("actor", MLP) | under("critic", MLP), under("backbone", MLP))
    assert report.skipped == [*under("critic", MLP)]


def test_renames_come_before_the_usual_names() -> None:
    there = under("actor", MLP) | under("critic", MLP)
    given, _, values, _ = loaded(there, under("actor", MLP), renames=["critic=actor"])
    assert torch.equal(values[f"actor.{LAYER}.bias"], given[f"critic.{LAYER}.bias"])
    here = under("critics.backbones.0", MLP) | under("critics.backbones.1", MLP)
    both = [f"actor=critics.backbones.{number}" for number in (0, 1)]
    *_, report = loaded(there, here, renames=both)
    assert not report.new, "one there may be for several here"


@pytest.mark.parametrize(
    ("rename", "says"),
    [
        (
            "actr=backbone",
            "init.renames: actr=backbone: no tensor there is actr; did you mean actor?",
        ),
        ("actor=backbon", "no tensor here is backbon; did you mean backbone?"),
        ("act=backbone", "no tensor there is act"),
    ],
)
def test_a_rename_of_nothing_is_refused(rename: str, says: str) -> None:
    assert says in refused(under("actor", MLP), under("backbone", MLP), renames=[rename])


def test_parts_are_patterns_of_names_here() -> None:
    shapes = under("actor", MLP) | HEAD
    *_, report = loaded(shapes, shapes, parts=["actor.*"])
    assert report.new == [*HEAD] and report.skipped == [*HEAD]
    *_, report = loaded(shapes, shapes, parts=["backbone.*", "head.bias"])
    assert report.new == ["head.weight"]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (["heads.*"], "init.parts: heads.*: matches no name; did you mean head.*?"),
        (["actor.*", "value.*"], "init.parts: value.*: nothing there is named so (there: actor.*,"),
    ],
)
def test_a_part_of_nothing_is_refused(parts: list[str], says: str) -> None:
    here = under("actor", MLP) | HEAD | {"value.bias": (1,)}
    assert says in refused(under("actor", MLP) | HEAD, here, parts=parts)


def test_nothing_in_common_is_refused() -> None:
    says = refused({"model.0.weight": (2, 2)}, HEAD)
    assert says == "no tensor there has the name of one here (there: model.*; here: head.*)"
    says = refused({"head.bias": (3,)}, {"head.bias": (2,)}, shapes="new")
    assert says.startswith("no tensor there fits one here")
    assert "there: nothing" in refused({}, HEAD)


LSTM = {"backbone.blocks.1.core.bias_hh_l0": (4,)}


def test_a_backbone_of_other_layers_is_refused_unless_a_part_is_asked_for() -> None:
    short, long = under("backbone", MLP), under("backbone", MLP) | LSTM
    says = refused(long, short)
    assert "the backbones have other layers: backbone.blocks.1.core.bias_hh_l0 has no place" in says
    assert "backbone.blocks.1.core.bias_hh_l0 is not there" in refused(short, long)
    assert "critic.blocks" in refused(
        short, under("critic", MLP) | under("critic", {"blocks.1.b": (1,)})
    )
    for there, here in ((long, short), (short, long)):
        *_, report = loaded(there, here, shapes="skip")
        assert {*report.loaded} == {*short}
    *_, report = loaded(long, short, parts=["backbone.blocks.0.*"])
    assert not report.new, "the other block is not asked for"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_what_is_not_finite_here_is_refused(value: float) -> None:
    there = {"head.bias": torch.tensor([0.0, value], dtype=torch.float64)}
    config = InitConfig.model_validate({"from": "somewhere"})
    with pytest.raises(ValueError, match=r"head.bias has numbers that are not finite \(NaN,"):
        transfer(there, numbers({"head.bias": (2,)}, 0.0), config)


def test_values_are_of_the_dtype_here() -> None:
    there = {"head.bias": torch.tensor([0.5, 2.0], dtype=torch.bfloat16)}
    config = InitConfig.model_validate({"from": "somewhere"})
    values, _ = transfer(there, numbers({"head.bias": (2,)}, 0.0), config)
    assert torch.equal(values["head.bias"], torch.tensor([0.5, 2.0]))


STATISTICS = under("normalizer", SEEN)


def test_statistics_are_carried_on_whatever_the_parts() -> None:
    shapes = STATISTICS | under("actor", MLP) | HEAD
    for parts in (["*"], ["actor.*"], ["actor.*", "normalizer.*"]):
        *_, values, report = loaded(shapes, shapes, parts=parts)
        assert {*STATISTICS} < {*values} and not {*STATISTICS} & {*report.skipped}
        *_, values, report = loaded(shapes, shapes, parts=parts, statistics="fresh")
        assert not {*STATISTICS} & {*values, *report.new, *report.skipped}


@pytest.mark.parametrize("shapes", ["skip", "new", "slice"])
def test_statistics_of_another_size_are_fresh_as_a_whole(shapes: str) -> None:
    other = under("normalizer", SEEN | {"mean": (3,), "variance": (3,)})
    *_, values, _ = loaded(STATISTICS | HEAD, other | HEAD, shapes=shapes)
    assert {*values} == {*HEAD}
    says = refused(STATISTICS | HEAD, other | HEAD)
    assert "normalizer.mean has the shape [2] there and [3] here, and 1 more differ; take" in says
    assert says.endswith("init.shapes=skip, new or slice, or init.statistics=fresh")
    *_, values, _ = loaded(STATISTICS | HEAD, other | HEAD, statistics="fresh")
    assert {*values} == {*HEAD}, "as it says"


def test_statistics_of_other_parts_are_fresh_as_well_if_they_shall_be() -> None:
    shapes = STATISTICS | under("rnd", STATISTICS | HEAD) | HEAD
    *_, values, report = loaded(shapes, shapes, statistics="fresh")
    assert {*values} == {*HEAD, *under("rnd", HEAD)}
    assert report.new == [*under("rnd", STATISTICS)]
    assert {*loaded(shapes, shapes)[2]} == {*shapes}
    *_, values, _ = loaded(shapes, shapes, parts=["head.*"])
    assert {*values} == {*HEAD, *STATISTICS}, "they are of weights that are not loaded"


def test_settings_without_a_source_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes=new: expected init\.from"):
        InitConfig(shapes="new")
    assert InitConfig().source is None


def test_names_collapse_to_what_they_fill() -> None:
    every = ["a.b.x", "a.b.y", "a.c", "d.e", "f"]
    assert collapsed(every, every) == ["a.*", "d.*", "f"]
    assert collapsed(["a.b.x", "a.b.y", "f"], every) == ["a.b.*", "f"]
    assert collapsed(["a.b.x"], every) == ["a.b.x"]
