"""Parts of a network by name."""

from __future__ import annotations

import pytest

from neuraxis.networks.transfer.patterns import matching

NAMES = ["actor.encoder.scale", "actor.blocks.0.weight", "critic.blocks.0.weight", "head.bias"]


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["*"], NAMES),
        ([], []),
        (["head.*"], NAMES[3:]),
        (["actor.*"], NAMES[:2]),
        (["backbone.*"], NAMES[:3]),
        (["backbone.blocks.0.*"], NAMES[1:3]),
        (["*.bias", "actor.enc*"], [NAMES[0], NAMES[3]]),
        (["head.bias"], NAMES[3:]),
    ],
)
def test_names_are_matched_in_their_order(patterns: list[str], found: list[str]) -> None:
    assert matching(NAMES, patterns) == found


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("heads.*", "heads.*: matches no name; did you mean head.*? (choices: actor.*, critic.*, "),
        ("backbon.*", "did you mean backbone.*?"),
        ("backbone.blocks.1.*", "did you mean backbone.blocks.0.*?"),
        ("ACTOR.*", "did you mean actor.*?"),
        ("q" * 9, "q: matches no name (choices: "),
        ("critics.*", "did you mean critic.*?"),
    ],
)
def test_a_pattern_without_a_match_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        matching(NAMES, ["head.*", pattern])
    assert says in str(error.value)
