"""Networks for rules, for spectral norms and for unit scaling."""

import jax
import pytest

from jinit import mup
from tests.support.trees import rows_by_path
from tests.support.widths import network_of_zoo
from tests.support.zoo import llama

pytestmark = pytest.mark.usefixtures("quick_compilation")

FUSED = "llama, fused, (out, in)"


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def test_spectral_norms():
    rows = rows_by_path(mup.spectral(network_of_zoo(llama, FUSED, 4)))
    # (out, in): (128, 96) has 96 inputs, and (192, 128) has 128.
    assert rows["layers/0/down_proj"]["lr"] == 1 / 96
    assert rows["layers/0/gate_up_proj"]["lr"] == 1 / 128
    assert rows["embed"]["std"] == rows["embed"]["lr"] == 1
    kernel = rows_by_path(mup.spectral(network_of_zoo(llama, "llama, scanned", 4)))
    # (3, 128, 16, 8): three layers, of which each has 128 inputs.
    assert kernel["layers/wq"]["lr"] == 1 / 128
    assert kernel["layers/wo"]["lr"] == 1 / 128


def test_unit_scaling():
    p = mup.unit_scaling(*(network_of_zoo(llama, "llama", n) for n in (1, 4)))
    rows = rows_by_path(p)
    # Keys of grouped queries are no readout: their multiplier 1 / n_in is in the std.
    assert rows["layers/0/wk"]["std"] == rows["layers/0/wk"]["lr"] == 1 / 128
    assert rows["layers/0/wk"]["multiplier"] == 1
    assert rows["layers/0/wq"]["std"] == 128**-0.5
    assert rows["embed"]["lr"] == 128**-0.5
    assert p.readout_scale == rows["lm_head"]["multiplier"] == 1 / 128
    assert "(lm_head)" in str(p)


def test_rules_with_roles():
    net = network_of_zoo(llama, "llama", 4)
    rules = [
        ("@query", "IOo"),
        (["@key", "@value"], "Ioo"),
        ("@attention_output", "IoO"),
        ("@scale", "vector"),
        ("embed", "input"),
        ("@readout", "output"),
        ("**", "hidden"),
    ]
    p = mup.from_rules(net, rules, width=(32, 128))
    assert p.readout_scale == 0.25
    q = mup.infer(network_of_zoo(llama, "llama", 1), net)
    assert [(r["class"], r["lr"]) for r in p.rows] == [
        (r["class"], r["lr"]) for r in q.rows
    ]
    with pytest.raises(ValueError, match=r"'ioo'.*name them by capitals"):
        mup.from_rules(net, [("@query", "hidden"), ("**", "vector")], width=(1, 4))


def test_classes_are_enough_for_kernels_in_any_order():
    rules = [
        ("@readout", "output"),
        ("embed", "input"),
        ("**/*_proj", "hidden"),
        (["**/q_norm", "**/k_norm"], "scalar"),
        ("**", "vector"),
    ]
    net = network_of_zoo(llama, FUSED, 4)
    by = {t.path: t for t in mup.from_rules(net, rules, width=(32, 128)).tensors}
    assert by["layers/0/down_proj"].layout == "oi" and by["lm_head"].axes == (0,)
