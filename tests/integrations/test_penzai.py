"""Models of penzai, whose axes have names."""

import dataclasses

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library

pz = library("penzai.pz", "penzai")
simple_mlp = library("penzai.models.simple_mlp", "penzai")
gpt_neox = library("penzai.models.transformer.variants.gpt_neox", "penzai")
llamalike = library("penzai.models.transformer.variants.llamalike_common", "penzai")

X = pz.nx.wrap(jax.random.normal(KEY, (64, 8))).tag("batch", "features")
FEW = pz.nx.wrap(jax.random.randint(KEY, (8, 12), 0, 4)).tag("batch", "seq")
TOKENS = pz.nx.wrap(jax.random.randint(KEY, (8, 12), 0, 50)).tag("batch", "seq")


def at_widths(draw, call):
    """Return `Widths.make`: a tree of arrays replaces the variables of a model."""

    def make(width):
        unbound, variables = pz.unbind_params(draw(KEY, width), freeze=True)

        def init(key, _):
            _, drawn = pz.unbind_params(draw(key, width), freeze=True)
            return {one.label: one.value for one in drawn}

        def apply(params, x):
            new = [
                dataclasses.replace(one, value=params[one.label]) for one in variables
            ]
            return call(pz.bind_variables(unbound, new), x)

        return init, apply

    return make


def perceptron(key, width=32):
    return simple_mlp.MLP.from_config(key, [8, width, width, 4])


def output(model, x):
    return model(x).unwrap("batch", "features")


class TestPerceptron(Checks):
    case = Case(
        draw=perceptron,
        call=lambda model: (model, X),
        table="""
mlp/Affine_0/Linear.weights  io   8  32  input
mlp/Affine_1/Linear.weights  io  32  32
mlp/Affine_2/Linear.weights  io  32   4  readout
""",
        depth=0,
        spoiled="mlp/Affine_1/Linear.weights",
        widths=Widths(
            make=at_widths(perceptron, output),
            sizes=(64, 512),
            x=X,
            target=jnp.sin(X.unwrap("batch", "features")[:, :4]),
            classes={
                "mlp/Affine_0/Linear.weights/data_array": "input",
                "mlp/Affine_1/Linear.weights/data_array": "hidden",
                "mlp/Affine_2/Linear.weights/data_array": "output",
            },
        ),
    )


def neox(key):
    config = gpt_neox.GPTNeoXTransformerConfig(
        num_attention_heads=4,
        embedding_dim=32,
        projection_dim=8,
        num_decoder_blocks=2,
        vocab_size=50,
        mlp_hidden_dim=64,
        rope_subset_size=4,
        rope_wavelength=1e4,
        activation_fn="gelu_exact",
        layernorm_epsilon=1e-5,
        parameter_dtype=jnp.float32,
        activation_dtype=jnp.float32,
    )
    return gpt_neox.build_gpt_neox_transformer(config, init_base_rng=key)


class TestGPTNeoX(Checks):
    case = Case(
        draw=neox,
        call=lambda model: (model, TOKENS),
        # Black et al. 2022: attention and MLP read one stream, and are added to it.
        table="""
transformer/embedder.embeddings  io . . embedding
transformer/block_{0,1}/pre_{attention,ffw}_norm/scale.weights  none . . scale
transformer/block_{0,1}/attention/query/Linear.weights   ioo 32 32  query
transformer/block_{0,1}/attention/key/Linear.weights     ioo 32 32  key
transformer/block_{0,1}/attention/value/Linear.weights   ioo 32 32  value
transformer/block_{0,1}/attention/output/Linear.weights  iio 32 32  attention_output residual_output
transformer/block_{0,1}/mlp/in/Linear.weights            io  32 64
transformer/block_{0,1}/mlp/out/Linear.weights           io  64 32  residual_output
transformer/lm_head.weights                              io  32 50  readout
""",  # noqa: E501
        depth=4,
        spoiled="transformer/block_1/mlp/in/Linear.weights",
        left=("transformer/embedder.embeddings",),
    )


def llama(key, heads=2):
    config = llamalike.LlamalikeTransformerConfig(
        num_kv_heads=heads,
        query_head_multiplier=2,
        embedding_dim=16 * heads,
        projection_dim=8,
        mlp_hidden_dim=32 * heads,
        num_decoder_blocks=2,
        vocab_size=50,
        mlp_variant="swiglu",
        tie_embedder_and_logits=False,
        use_layer_stack=True,
    )
    return llamalike.build_llamalike_transformer(config, init_base_rng=key)


def logits(model, tokens):
    return model(tokens).unwrap("batch", "seq", "vocabulary")


class TestLlama(Checks):
    case = Case(
        draw=llama,
        call=lambda model: (model, TOKENS),
        # Touvron et al. 2023, with grouped queries, and its blocks as one scan.
        table="""
transformer/embedder.embeddings             io . . embedding
transformer/blocks/pre_{attention,ffw}_norm/scale.weights  none . . scale
transformer/blocks/attention/query.weights  biooo 32 32  query
transformer/blocks/attention/key.weights    bioo  32 16  key
transformer/blocks/attention/value.weights  bioo  32 16  value
transformer/blocks/attention/output.weights biiio 32 32  attention_output residual_output
transformer/blocks/mlp/gating_linear.weights  bio 32 64  gate
transformer/blocks/mlp/value_linear.weights   bio 32 64  up
transformer/blocks/mlp/out_linear.weights     bio 64 32  residual_output
transformer/lm_head.weights                   io  32 50  readout
""",  # noqa: E501
        depth=4,
        spoiled="transformer/blocks/mlp/value_linear.weights",
        left=("transformer/embedder.embeddings",),
        widths=Widths(
            # The number of heads grows, and their size stays.
            make=at_widths(lambda key, width: llama(key, width // 16), logits),
            sizes=(32, 128),
            x=FEW,
            target=0,
            rate=1e-2,
            tolerance=0.3,
            loss=lambda y, _: -jnp.mean(jax.nn.log_softmax(y)[..., 7]),
            classes={
                "transformer/embedder.embeddings/data_array": "input",
                "transformer/blocks/attention/query.weights/data_array": "hidden",
                "transformer/blocks/attention/output.weights/data_array": "hidden",
                "transformer/blocks/mlp/out_linear.weights/data_array": "hidden",
                "transformer/lm_head.weights/data_array": "output",
            },
        ),
    )
