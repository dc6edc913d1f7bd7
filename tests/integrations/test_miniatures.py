"""Models of packages that do not install, written anew: see tests/support/miniatures.

T5 is that of tests/support/zoo, whose layers are scanned along axis 1.
"""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.integration import KEY, Case, Checks, Widths
from tests.support.miniatures import gemma, s5, style_gan, vit_moe
from tests.support.repository import ROOT
from tests.support.zoo import t5

IDS = jax.random.randint(KEY, (4, 8), 0, 40)
GEMMA = gemma.Gemma(16)


class TestGemmaOfEinsums(Checks):
    case = Case(
        draw=lambda key: GEMMA.init(key, IDS),
        call=lambda variables: (GEMMA, variables, IDS),
        table=gemma.TABLE,
        left=("input_embedding",),
        depth=4,
        spoiled="layer_1/attn/q_einsum/w",
        widths=Widths(
            make=lambda width: gemma.Gemma(width, 32 / width),
            readout="multiplier",
            sizes=(32, 128),
            x=IDS[:2, :4],
            target=jax.random.normal(KEY, (2, 4, gemma.VOCABULARY)),
            classes={
                "input_embedding": "output",
                "layer_0/attn/q_einsum/w": "hidden",
                "layer_0/attn/kv_einsum/w": "hidden",
                "layer_0/attn/attn_vec_einsum/w": "hidden",
                "layer_0/mlp/gating_einsum/w": "hidden",
                "layer_0/pre_ffw_norm/scale": "vector",
            },
        ),
    )

    def test_probe_names_the_layer_that_is_spoiled(self):
        # The reference draws N(0, 0.01), which 30 times is a layer of gain
        # 0.3 sqrt(16) = 1.2: healthy. It takes 900 times, a gain of 36.
        jinit.probe(self.start.spoiled()).check()
        verdict = jinit.probe(self.start.spoiled(900.0)).verdict
        assert "layer_1/attn/q_einsum" in {finding.path for finding in verdict}

    def test_coordinate_check_is_flat(self):
        # The cap reads logits, which muP lets start smaller in a wide model.
        findings = self.coordinates().findings
        assert [(one.category, one.path) for one in findings] == [("shrinks", "tanh")]


SOURCE, TARGET = IDS[:, :6], IDS[:, :5]
T5 = t5.T5(1)


class TestT5AlongAxisOne(Checks):
    case = Case(
        draw=lambda key: T5.init(key, SOURCE, TARGET),
        call=lambda variables: (T5, variables, SOURCE, TARGET),
        table=t5.table("ibo"),
        left=("*_relpos/rel_embedding", "token_embedder/embedding"),
        depth=10,
        spoiled="encoder/mlp/wi_1/kernel",
        # The model of the zoo has one width.
    )

    def test_materialize_gives_the_eager_bits(self):
        # The kernels are drawn within a scan, whose program has other bits without
        # XLA's optimizations, which tests leave out to be fast. Programs that are
        # compiled already stay as they are, so another process draws.
        subprocess.run([sys.executable, "-c", BITS_OF_T5], check=True, cwd=ROOT)


BITS_OF_T5 = """
import jax, jinit
from tests.support.zoo import t5
model, ids = t5.T5(1), jax.numpy.ones((4, 6), int)
draw = lambda key: model.init(key, ids, ids[:, :5])
key = jax.random.key(0)
drawn, eager = jinit.materialize(draw)(key), draw(key)
assert jax.tree.structure(drawn) == jax.tree.structure(eager)
for one, other in zip(jax.tree.leaves(drawn), jax.tree.leaves(eager), strict=True):
    assert one.tobytes() == other.tobytes()
"""


IMAGES = jax.random.normal(KEY, (8, 8, 8, 3))
VIT_MOE = vit_moe.ViTMoE(16)


class TestViTMoE(Checks):
    case = Case(
        draw=lambda key: VIT_MOE.init(key, IMAGES),
        call=lambda variables: (VIT_MOE, variables, IMAGES),
        table=vit_moe.TABLE,
        left=("positions",),
        depth=4,
        spoiled="mlp_1/experts/up/kernel",
        widths=Widths(
            make=vit_moe.ViTMoE,
            sizes=(32, 128),
            x=IMAGES[:2],
            target=jnp.sin(IMAGES[:2, 0, :3, 0]),
            classes={
                "patches/kernel": "input",
                "attention_0/query/kernel": "hidden",
                "mlp_1/experts/up/kernel": "expert",
                "mlp_1/router/kernel": "router",
                "head/kernel": "output",
            },
        ),
    )


LATENTS = jax.random.normal(KEY, (8, 8))
STYLE_GAN = style_gan.Generator(16)


class TestStyleGAN2(Checks):
    case = Case(
        draw=lambda key: STYLE_GAN.init(key, LATENTS),
        call=lambda variables: (STYLE_GAN, variables, LATENTS),
        table=style_gan.TABLE,
        depth=None,
        # Equal learning rates put 1 / sqrt(fan_in) into the model, which muP would put
        # into the weights: it is one or the other.
        spoiled="conv_1/affine/weight",
        # Demodulated outputs do not follow their kernels, and no analysis sees through
        # a style that scales a kernel.
        skip=("conv_0", "conv_1"),
        autoinit_skip=("conv_0", "conv_1", "to_rgb_0", "to_rgb_1"),
        left=("const", "conv_?/weight"),
        rules=[
            ("mapping_*/weight", jinit.normal(100.0)),
            ("**/weight", jinit.normal(1.0)),
        ],
    )

    def test_autoinit_says_which_layers_it_cannot_set(self):
        with pytest.raises(ValueError, match=r"skip=\['conv_0'\] leaves the layer out"):
            jinit.autoinit(self.start.net)


SEQUENCES = jax.random.normal(KEY, (4, 16, s5.FEATURES))


class TestS5(Checks):
    case = Case(
        draw=s5.draw,
        call=lambda params: (s5.apply, params, SEQUENCES),
        table=s5.TABLE,
        depth=None,
        spoiled="layers/1/gate",
        # The halves of a complex kernel are two parameters, of which none alone sets
        # the output.
        left=("layers/?/B_??", "layers/?/C_??"),
        widths=Widths(
            make=lambda width: (lambda key, _: s5.draw(key, width), s5.apply),
            sizes=(32, 128),
            x=SEQUENCES[:, :4],
            target=jnp.sin(SEQUENCES[:, 0, :3]),
            classes={
                "encoder": "input",
                # The number of states is fixed: B ends there, and C begins there.
                "layers/0/B_re": "output",
                "layers/0/C_re": "input",
                "layers/0/gate": "hidden",
                "layers/0/D": "vector",
                "decoder": "output",
            },
        ),
    )
