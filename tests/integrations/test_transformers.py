"""Transformers of Hugging Face in Flax: BERT, GPT-2, ViT, Llama and Gemma.

Its T5 calls `jnp.clip(a_max=)`, which JAX no longer has; `test_miniatures` has a T5.
"""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library

hf = library("transformers")

IDS = jax.random.randint(KEY, (4, 8), 0, 48)
MASK = jnp.ones_like(IDS)
POSITIONS = jnp.broadcast_to(jnp.arange(8), IDS.shape)


# The std that .02 is at a width of 768 is this one at a width of 16.
STD = 0.02 * (768 / 16) ** 0.5


def draw(kind, config, shape=(1, 8)):
    """Return how a class of Hugging Face draws its parameters, and its module."""

    def init(key):
        model = kind(config, input_shape=shape, _do_init=False)
        return {"params": model.init_weights(key, shape)}

    return init, kind.module_class(config=config)


# A step of Adam is aligned with what few inputs a wide model reads: with 32 tokens, the
# changes of layers shrink by slopes of -0.2 between widths of 32 and 128.
FEW = (IDS[:2, :4], MASK[:2, :4], POSITIONS[:2, :4])


def widths(make, x, *inputs, outputs=48, sizes=(32, 128), readout="weights", **facts):
    """Return a model at several widths, whose logits learn a table of numbers."""

    def at(width):
        init, module = make(width)

        def logits(variables, x):
            factor = 1 if readout == "weights" else sizes[0] / width
            return module.apply(variables, x, *inputs).logits * factor

        return (lambda key, x: init(key)), logits

    shape = (*x.shape[:2], outputs) if outputs == 48 else (x.shape[0], outputs)
    target = jax.random.normal(KEY, shape)
    return Widths(make=at, sizes=sizes, x=x, target=target, readout=readout, **facts)


# -- BERT (Devlin et al. 2019): post-norm, a classifier on the pooled first token.


def bert(width=16):
    config = hf.BertConfig(
        vocab_size=48, hidden_size=width, num_hidden_layers=2,
        num_attention_heads=width // 8, intermediate_size=4 * width,
        max_position_embeddings=8, num_labels=3,
        initializer_range=STD,
    )  # fmt: skip
    return draw(hf.FlaxBertForSequenceClassification, config)


BERT_DRAW, BERT = bert()


class TestBert(Checks):
    case = Case(
        draw=BERT_DRAW,
        call=lambda variables: (
            BERT, variables, IDS, MASK, 0 * IDS, POSITIONS, jnp.ones((2, 2)),
        ),
        table="""
bert/embeddings/word_embeddings/embedding     io  .  .  embedding
bert/encoder/layer/{0,1}/attention/self/query/kernel  io 16 16 query
bert/encoder/layer/{0,1}/attention/self/key/kernel    io 16 16 key
bert/encoder/layer/{0,1}/attention/self/value/kernel  io 16 16 value
bert/encoder/layer/{0,1}/attention/output/dense/kernel io 16 16 attention_output residual_output
bert/encoder/layer/{0,1}/intermediate/dense/kernel  io 16 64
bert/encoder/layer/{0,1}/output/dense/kernel  io 64 16 residual_output
bert/pooler/dense/kernel  io  16  16
classifier/kernel         io  16   3  readout
""",  # noqa: E501
        depth=4,
        spoiled="bert/encoder/layer/1/attention/self/query/kernel",
        left=("bert/embeddings/*_embeddings/embedding",),
        widths=widths(
            bert,
            *FEW[:2],
            0 * FEW[0],
            FEW[2],
            None,
            outputs=3,
            classes={
                "bert/embeddings/word_embeddings/embedding": "input",
                "bert/encoder/layer/0/attention/self/key/kernel": "hidden",
                "bert/encoder/layer/0/output/dense/kernel": "hidden",
                "classifier/kernel": "output",
            },
        ),
    )  # fmt: skip


# -- GPT-2 (Radford et al. 2019): pre-norm, the embedding is the readout.


def gpt2(width=16):
    config = hf.GPT2Config(
        vocab_size=48, n_positions=8, n_embd=width, n_layer=2, n_head=width // 8,
        bos_token_id=0, eos_token_id=0, initializer_range=STD,
    )  # fmt: skip
    return draw(hf.FlaxGPT2LMHeadModel, config)


GPT2_DRAW, GPT2 = gpt2()


class TestGPT2(Checks):
    case = Case(
        draw=GPT2_DRAW,
        call=lambda variables: (GPT2, variables, IDS, MASK, POSITIONS),
        table="""
transformer/wte/embedding         io   .  .  embedding readout
transformer/h/{0,1}/attn/c_attn/kernel  oi  16  48  query key value
transformer/h/{0,1}/attn/c_proj/kernel  oi  16  16  attention_output residual_output
transformer/h/{0,1}/mlp/c_fc/kernel     oi  16  64
transformer/h/{0,1}/mlp/c_proj/kernel   oi  64  16  residual_output
""",
        depth=4,
        # The package draws N(0, 0.02) whatever the range of the configuration, which 30
        # times makes few layers of a width of 16 large.
        spoiled="transformer/h/1/mlp/c_proj/kernel",
        left=("transformer/w?e/embedding",),
        widths=widths(
            gpt2,
            *FEW,
            readout="multiplier",
            classes={
                "transformer/wte/embedding": "output",
                "transformer/h/0/attn/c_attn/kernel": "hidden",
                "transformer/h/0/mlp/c_proj/kernel": "hidden",
                "transformer/h/0/mlp/c_fc/bias": "vector",
            },
        ),
    )


# -- ViT (Dosovitskiy et al. 2021): pre-norm, patches by a convolution.

IMAGES = jax.random.normal(KEY, (4, 16, 16, 3))


def vit(width=16):
    config = hf.ViTConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=width // 8,
        intermediate_size=4 * width, image_size=16, patch_size=8, num_labels=3,
        initializer_range=STD,
    )  # fmt: skip
    return draw(hf.FlaxViTForImageClassification, config, (1, 16, 16, 3))


VIT_DRAW, VIT = vit()


class TestViT(Checks):
    case = Case(
        slow=("coordinate_check_is_flat",),
        draw=VIT_DRAW,
        call=lambda variables: (VIT, variables, IMAGES),
        table="""
vit/embeddings/patch_embeddings/projection/kernel  kkio 192 1024 input convolution
vit/encoder/layer/{0,1}/attention/attention/query/kernel  io 16 16 query
vit/encoder/layer/{0,1}/attention/attention/key/kernel    io 16 16 key
vit/encoder/layer/{0,1}/attention/attention/value/kernel  io 16 16 value
vit/encoder/layer/{0,1}/attention/output/dense/kernel io 16 16 attention_output residual_output
vit/encoder/layer/{0,1}/intermediate/dense/kernel  io 16 64
vit/encoder/layer/{0,1}/output/dense/kernel  io 64 16 residual_output
classifier/kernel         io  16   3  readout
""",  # noqa: E501
        depth=4,
        spoiled="vit/encoder/layer/0/output/dense/kernel",
        # The kernels have the std range / sqrt(fan_in), by variance_scaling(range**2,
        # "fan_in"), where the original in PyTorch draws N(0, range): at a width of 768,
        # 28 times too small.
        verdict=("small layers",),
        left=("vit/embeddings/cls_token", "vit/embeddings/position_embeddings"),
        widths=widths(
            vit,
            IMAGES[:2],
            outputs=3,
            classes={
                "vit/embeddings/patch_embeddings/projection/kernel": "input",
                "vit/encoder/layer/0/attention/attention/query/kernel": "hidden",
                "vit/encoder/layer/0/attention/output/dense/kernel": "hidden",
                "classifier/kernel": "output",
            },
        ),
    )


# -- Llama (Touvron et al. 2023) with grouped queries, and Gemma (2024).


def decoder(config, kind, width):
    config = config(
        vocab_size=48, hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 8, num_key_value_heads=width // 16,
        head_dim=8, max_position_embeddings=32, initializer_range=STD,
    )  # fmt: skip
    return draw(kind, config)


def llama(width=32):
    return decoder(hf.LlamaConfig, hf.FlaxLlamaForCausalLM, width)


def gemma(width=32):
    return decoder(hf.GemmaConfig, hf.FlaxGemmaForCausalLM, width)


LLAMA_DRAW, LLAMA = llama()
GEMMA_DRAW, GEMMA = gemma()

DECODER = """
model/layers/{0,1}/self_attn/q_proj/kernel  io 32 32 query
model/layers/{0,1}/self_attn/k_proj/kernel  io 32 16 key
model/layers/{0,1}/self_attn/v_proj/kernel  io 32 16 value
model/layers/{0,1}/self_attn/o_proj/kernel  io 32 32 attention_output residual_output
model/layers/{0,1}/mlp/gate_proj/kernel  io 32 64 gate
model/layers/{0,1}/mlp/up_proj/kernel    io 32 64 up
model/layers/{0,1}/mlp/down_proj/kernel  io 64 32 residual_output
model/layers/{0,1}/input_layernorm/weight  none . . scale
"""


class TestLlama(Checks):
    case = Case(
        draw=LLAMA_DRAW,
        call=lambda variables: (LLAMA, variables, IDS, MASK, POSITIONS),
        table=DECODER
        + """
model/embed_tokens/embedding  io . . embedding
lm_head/kernel  io 32 48 readout
""",
        depth=4,
        spoiled="model/layers/0/mlp/down_proj/kernel",
        left=("model/embed_tokens/embedding",),
        widths=widths(
            llama,
            *FEW,
            classes={
                "model/embed_tokens/embedding": "input",
                "model/layers/0/self_attn/k_proj/kernel": "hidden",
                "model/layers/0/mlp/gate_proj/kernel": "hidden",
                "lm_head/kernel": "output",
            },
        ),
    )


class TestGemma(Checks):
    case = Case(
        draw=GEMMA_DRAW,
        call=lambda variables: (GEMMA, variables, IDS, MASK, POSITIONS),
        table=DECODER + "model/embed_tokens/embedding  io . . embedding readout",
        depth=4,
        spoiled="model/layers/1/self_attn/v_proj/kernel",
        left=("model/embed_tokens/embedding",),
        # Its widths are those of Llama, and the einsums of test_miniatures are Gemma's.
    )
