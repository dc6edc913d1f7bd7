"""The numbers of the depth rules, against the papers' formulas and tables."""

import math

import pytest

import jinit
from jinit import residual_scale


@pytest.mark.parametrize(
    "layers, alpha, beta",
    [
        (6, 1.861210, 0.379918),
        (12, 2.213364, 0.319472),
        (24, 2.632148, 0.268642),
        (100, 3.760603, 0.188030),
        (1000, 6.687403, 0.105737),
    ],
)
def test_deepnorm_of_one_stack(layers, alpha, beta):
    found = residual_scale("deepnorm", layers)
    assert found == pytest.approx((alpha, beta), abs=1e-6)
    assert (found.alpha, found.beta) == tuple(found)


def test_deepnorm_of_encoder_and_decoder():
    encoder = residual_scale("deepnorm", 18, part="encoder", other_layers=6)
    decoder = residual_scale("deepnorm", 6, part="decoder", other_layers=18)
    assert encoder.alpha == pytest.approx(0.81 * (18**4 * 6) ** (1 / 16))
    assert encoder.beta == pytest.approx(0.87 * (18**4 * 6) ** (-1 / 16))
    assert decoder == pytest.approx((18**0.25, 72**-0.25))
    assert residual_scale("deepnorm", 6, part="decoder") == decoder


FLOATS = [
    ("gpt2", {"num_layers": 12}, 1 / math.sqrt(24)),
    ("wang", {"num_layers": 12, "width": 768}, 0.00601407),
    ("fixup", {"num_layers": 27}, 0.19245009),
    ("fixup", {"num_layers": 16, "branch_layers": 3}, 0.5),
    ("skipinit", {"num_layers": 5}, 0),
    ("rezero", {"num_layers": 5}, 0),
    ("layer_scale", {"num_layers": 18}, 0.1),
    ("layer_scale", {"num_layers": 19}, 1e-5),
    ("layer_scale", {"num_layers": 24}, 1e-5),
    ("layer_scale", {"num_layers": 25}, 1e-6),
    ("t_fixup", {"num_layers": 6}, 0.428092),
    ("t_fixup", {"num_layers": 6, "part": "encoder", "other_layers": 6}, 0.428092),
    ("t_fixup", {"num_layers": 6, "part": "decoder", "other_layers": 6}, 0.368894),
    ("depth_mup", {"num_layers": 16}, 0.25),
    ("completep", {"num_layers": 16}, 1 / 16),
    ("subln", {"num_layers": 12}, math.sqrt(math.log(24))),
    (
        "subln",
        {"num_layers": 12, "part": "encoder", "other_layers": 4},
        math.sqrt(math.log(12) * math.log(24) / 3),
    ),
    (
        "subln",
        {"num_layers": 4, "part": "decoder", "other_layers": 12},
        math.sqrt(math.log(12)),
    ),
]


@pytest.mark.parametrize("rule, settings, value", FLOATS)
def test_the_other_rules(rule, settings, value):
    assert residual_scale(rule, **settings) == pytest.approx(value, rel=1e-5)


def test_branches_of_depth_mup_and_completep_keep_the_stream_bounded():
    # A stream of L branches of unit gain and scale s has variance (1 + s^2)^L.
    for layers in (4, 64, 1024):
        one = (1 + residual_scale("depth_mup", layers) ** 2) ** layers
        other = (1 + residual_scale("completep", layers) ** 2) ** layers
        assert one < math.e and other < 1 + 2 / layers


ERRORS = [
    (("gpt-2", 3), {}, ValueError, "`rule` is 'gpt-2'.*Did you mean 'gpt2'"),
    (("gpt2", 0), {}, ValueError, "`num_layers` is 0; it must be 1 or more"),
    (("gpt2", 2.5), {}, TypeError, "`num_layers` is 2.5; it must be an integer"),
    (("gpt2", None), {}, TypeError, "`num_layers` is None"),
    (("wang", 3), {}, ValueError, "`width` is missing; the rule 'wang' needs it here"),
    (("fixup", 3), {"branch_layers": 1}, ValueError, "needs two or more"),
    (("deepnorm", 3), {"part": "both"}, ValueError, "`part` is 'both'"),
    (("deepnorm", 3), {"part": "encoder"}, ValueError, "`other_layers` is missing"),
    (("subln", 3), {"part": "encoder"}, ValueError, "`other_layers` is missing"),
    (("deepnorm", 3), {"other_layers": 3}, ValueError, "`part` is None; say which"),
    (
        ("gpt2", 3),
        {"part": "encoder", "other_layers": 3},
        ValueError,
        "the rule 'gpt2' has no parts",
    ),
]


@pytest.mark.parametrize("arguments, settings, error, text", ERRORS)
def test_errors(arguments, settings, error, text):
    with pytest.raises(error, match=text):
        jinit.residual_scale(*arguments, **settings)
