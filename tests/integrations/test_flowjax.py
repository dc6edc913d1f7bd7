"""Flows of flowjax: their layers are scanned, and their kernels masked or coupled."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.integration import KEY, Case, Checks, Widths, library, of_equinox

flows = library("flowjax.flows", "flowjax")
distributions = library("flowjax.distributions", "flowjax")

X = jax.random.normal(KEY, (64, 4))


def log_prob(flow, x):
    return flow.log_prob(x)


def masked(key, width=50):
    base = distributions.Normal(jnp.zeros(4))
    return flows.masked_autoregressive_flow(
        key, base_dist=base, flow_layers=4, nn_width=width
    )


def coupling(key, width=50):
    base = distributions.Normal(jnp.zeros(4))
    return flows.coupling_flow(key, base_dist=base, flow_layers=4, nn_width=width)


MASKED = "bijection/bijection/bijection/bijections/0/masked_autoregressive_mlp/layers"
COUPLING = "bijection/bijection/bijection/bijections/0/conditioner/layers"


class TestMaskedAutoregressiveFlow(Checks):
    case = Case(
        draw=masked,
        call=lambda flow: (log_prob, flow, X),
        # Papamakarios et al. 2017: a mean and a scale for each of four dimensions. The
        # masks leave (out, in) kernels, of which the scan's steps have one each.
        table=f"""
{MASKED}/0/weight/args/1  boi   4  50
{MASKED}/1/weight/args/1  boi  50   8
{MASKED}/{{0,1}}/bias     none  .   .  bias
""",
        depth=0,
        spoiled=f"{MASKED}/0/weight/args/1",
        # Equinox draws U(+-1 / sqrt(fan_in)), which keeps 1 / sqrt(3) = 0.58 of the
        # rms, and the masks leave about half of the inputs: 0.58 / sqrt(2) = 0.41.
        verdict=("small layers",),
        widths=Widths(
            make=of_equinox(masked, log_prob),
            sizes=(128, 1024),
            x=X,
            target=0,
            loss=lambda y, _: -jnp.mean(y),
            classes={
                f"{MASKED}/0/weight/args/1": "input",
                f"{MASKED}/1/weight/args/1": "output",
            },
        ),
    )

    def test_autoinit_sets_every_layer(self):
        """A mask sets weights to 0, and how many inputs are left differs by unit."""
        with pytest.raises(ValueError, match="changed before they meet a signal"):
            jinit.autoinit(self.start.net)


class TestCouplingFlow(Checks):
    case = Case(
        slow=("coordinate_check_is_flat",),
        draw=coupling,
        call=lambda flow: (log_prob, flow, X),
        # Dinh et al. 2017: two dimensions make the shift and the scale of the others.
        table=f"""
{COUPLING}/0/weight    boi   2  50
{COUPLING}/1/weight    boi  50   4
{COUPLING}/{{0,1}}/bias none  .   .  bias
""",
        depth=0,
        spoiled=f"{COUPLING}/1/weight",
        widths=Widths(
            make=of_equinox(coupling, log_prob),
            sizes=(128, 1024),
            x=X,
            target=0,
            loss=lambda y, _: -jnp.mean(y),
            classes={f"{COUPLING}/0/weight": "input", f"{COUPLING}/1/weight": "output"},
        ),
    )
