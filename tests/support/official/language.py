"""Facts about language models, read in 2026; the recipes name files and commits."""

from tests.support.official.facts import Fact, Proof

SCALES, BIASES = "constant(1)", "constant(0)"
LLAMA = {"d": 64, "L": 2, "V": 160}
GPT = {"d": 32, "L": 2, "V": 48, "h": 8}
OUT = "Block_1/MultiHeadDotProductAttention_0/out/kernel"
QUERY = "Block_1/MultiHeadDotProductAttention_0/query/kernel"
VALUE = "Block_1/MultiHeadDotProductAttention_0/value/kernel"
UP, DOWN = "Block_1/Dense_0/kernel", "Block_1/Dense_1/kernel"
TABLE, POSITIONS, HEAD = "Embed_0/embedding", "pos/embedding", "head/kernel"
NORM, BIAS = "LayerNorm_0/scale", "Block_1/Dense_0/bias"
EACH_ROLE = "tests/recipes/test_language_models.py::test_each_role_has_the_official_law"
LIBRARIES = "tests/recipes/test_language_models.py::test_every_library_has_equal_laws"
SCANS = (
    "tests/recipes/test_language_models.py::"
    "test_each_slice_of_a_scanned_stack_has_the_law_of_its_layer"
)
STACKS = (EACH_ROLE, LIBRARIES, SCANS)
BY_NAMES = "tests/recipes/test_recipes.py::test_laws"
STEPS = (
    "tests/recipes/test_training.py::"
    "test_a_step_changes_a_deepnorm_transformer_by_the_same_at_every_depth"
)
CONVENTION = "tests/recipes/test_hugging_face.py::test_the_common_convention"
EXTRAS = "tests/recipes/test_language_extras.py::"

LANGUAGE = {
    "gpt2": Proof("transformer", GPT, (
        Fact("residual outputs", "2", "normal(0.02 / sqrt(2 * L))", OUT),
        Fact("kernels", "1:54", "normal(0.02)", UP),
        Fact("embeddings", "1:155-156", "normal(0.02)", TABLE),
        Fact("positions", "1:153-154", "normal(0.01)", POSITIONS),
        Fact("scales", "1:32", SCALES, NORM),
        Fact("biases", "1:55", BIASES, BIAS),
    ), (BY_NAMES,)),
    "small_init": Proof("transformer", GPT, (
        Fact("residual outputs", "1:130-134", "normal(2 / L / sqrt(d))", OUT),
        Fact("kernels", "1:115-121", "normal(sqrt(2 / (5 * d)))", UP),
        Fact("embeddings", "1:115-121", "normal(sqrt(2 / (5 * d)))", TABLE),
        Fact("scales", "", SCALES, NORM),
        Fact("biases", "", BIASES, BIAS),
    ), (BY_NAMES,)),
    "t5": Proof("transformer", GPT, (
        Fact("query", "1:199-200", "normal(1 / sqrt(d) / sqrt(h))", QUERY,
             std_only=True),
        Fact("kernels", "1:351-352", "truncated_lecun(n)", DOWN, {"n": 128}),
        Fact("embeddings", "1:47-48", "normal(1 / sqrt(d))", TABLE),
        Fact("relative positions", "1:610-616",
             "exact('variance_scaling(1, fan_avg, uniform)')"),
        Fact("scales", "1:645", SCALES, NORM),
        Fact("biases", "", BIASES, BIAS),
    ), (BY_NAMES,
        "tests/recipes/test_branches.py::test_vit_s_patches_and_t5_s_tables")),
    "deepnorm": Proof("transformer", GPT, (
        Fact("query, key", "2", "normal(sqrt(2 / (n + m)))", QUERY, {"n": 32, "m": 32}),
        Fact("other kernels of branches", "1:243-251",
             "normal(sqrt(2 / (n + m)) / (8 * L) ** 0.25)", UP, {"n": 32, "m": 128}),
        Fact("kernels outside of branches", "1:284-289", "normal(d**-0.5)", HEAD),
        Fact("embeddings", "2", "normal(d**-0.5)", TABLE),
        Fact("scales", "", SCALES, NORM),
        Fact("biases", "", BIASES, BIAS),
    ), (BY_NAMES, STEPS)),
    "t_fixup": Proof("transformer", GPT, (
        Fact("query, key", "2", "xavier_uniform(n, m)", QUERY, {"n": 32, "m": 32},
             std_only=True),
        Fact("other kernels of branches", "1:36-44",
             "normal(0.67 * N**-0.25 * sqrt(2 / (n + m)))", UP,
             {"n": 32, "m": 128, "N": 2}, std_only=True),
        Fact("kernels outside of branches", "2", "normal(d**-0.5)", HEAD),
        Fact("embeddings", "2", "normal((9 * N) ** -0.25 * d**-0.5)", TABLE, {"N": 2}),
        Fact("scales", "", SCALES, NORM),
        Fact("biases", "1:374-375", BIASES, BIAS),
    ), (BY_NAMES,)),
    "llama3": Proof("llama", LLAMA, (
        Fact("residual outputs", "1:62-66", "truncated(0.02 / (2 * (l + 1)) ** 0.5)",
             "layers_1/wo/kernel", {"l": 1}),
        Fact("up", "1:106", "truncated(0.02 / (2 * (l + 1)) ** 0.5)",
             "layers_1/w3/kernel", {"l": 1}),
        Fact("kernels", "1:45-48", "truncated(0.02)", "layers_1/wq/kernel"),
        Fact("embeddings", "1:50", "normal(1.0)", "tok_embeddings/embedding"),
        Fact("readout", "1:54-59", "truncated(d**-0.5, 3 * d**-0.5)", "output/kernel"),
        Fact("scales", "1:49", SCALES, "norm/scale"),
        Fact("biases", "1:47", BIASES),
    ), STACKS),
    "deepseek_v3": Proof("mixture", {"d": 32, "L": 2}, (
        Fact("residual outputs", "1:78", "truncated(0.02 / (2 * (l + 1)) ** 0.5)",
             "layers/1/w2", {"l": 1}),
        Fact("up", "1:79", "truncated(0.02 / (2 * (l + 1)) ** 0.5)",
             "layers/1/w3", {"l": 1}),
        Fact("routers", "1:241", "truncated(0.02 / (2 * (l + 1)) ** 0.5)",
             "layers/1/router", {"l": 1}),
        Fact("kernels", "1:53", "truncated(0.02)", "layers/1/w1"),
        Fact("embeddings", "1:57", "normal(1.0)"),
        Fact("readout", "1:60-65", "truncated(d**-0.5, 3 * d**-0.5)", "head"),
        Fact("scales", "1:56", SCALES),
        Fact("biases", "1:54", BIASES),
    ), (EACH_ROLE, LIBRARIES,
        EXTRAS + "test_deepseek_scales_experts_and_routers_by_depth")),
    "olmo": Proof("llama", LLAMA, (
        Fact("kernels and embeddings", "1:30-39", "truncated(0.02, 3 * 0.02)",
             "layers_1/wq/kernel"),
        Fact("scales", "", SCALES, "norm/scale"),
        Fact("biases", "1:40-44", BIASES),
    ), (*STACKS, EXTRAS + "test_olmo_scales_a_whole_mixture")),
    "qwen3": Proof("llama", LLAMA, (
        Fact("kernels", "1:52-55", "normal(0.02)", "layers_1/w2/kernel"),
        Fact("embeddings", "1:57", "normal(0.02)", "tok_embeddings/embedding"),
        Fact("scales", "1:56", SCALES, "norm/scale"),
        Fact("biases", "1:54", BIASES),
    ), (*STACKS[:2], EXTRAS + "test_qwen_as_megatron_scales_the_experts_ends")),
    "full_megatron": Proof("llama", LLAMA, (
        Fact("residual outputs", "1:118-120",
             "truncated(0.02 / sqrt(2.0 * L), 3 * 0.02 / sqrt(2.0 * L))",
             "layers_1/wo/kernel"),
        Fact("kernels", "1:115-117", "truncated(0.02, 3 * 0.02)", "layers_1/wq/kernel"),
        Fact("embeddings", "1:121-124", "truncated(0.02, 3 * 0.02)",
             "tok_embeddings/embedding"),
        Fact("readout", "1:125-127", "truncated(d**-0.5, 3 * d**-0.5)",
             "output/kernel"),
        Fact("scales", "", SCALES, "norm/scale"),
        Fact("biases", "", BIASES),
    ), STACKS[:2]),
    "nanochat": Proof("chat", {"d": 32, "L": 3, "V": 50}, (
        Fact("residual outputs", "1:230-232", "constant(0)", "h/1/a_proj"),
        Fact("query, key, value", "1:227-229", "uniform(sqrt(3) * d**-0.5)", "h/1/c_q"),
        Fact("kernels", "1:231", "uniform(0.4 * sqrt(3) * d**-0.5)", "h/1/c_fc"),
        Fact("embeddings", "1:220", "normal(0.8)", "wte"),
        Fact("readout", "1:221", "normal(0.001)", "lm_head"),
        Fact("tables of values", "1:248-250", "uniform(sqrt(3) * d**-0.5)",
             "value_embed"),
        Fact("gates", "1:246-255", "uniform(0.0, 0.02)", "smear_gate"),
        Fact("factors of the stream", "1:235-238",
             "exact('1.15 - 0.10 * l / (L - 1)')", "resid_lambdas"),
        Fact("factors of the embedding", "1:239-241",
             "exact('0.20 - 0.15 * l / (L - 1)')", "x0_lambdas"),
        Fact("other factors", "1:244-245", "constant(0.2)", "backout_lambda"),
        Fact("scales", "", SCALES),
        Fact("biases", "", BIASES),
    ), (EACH_ROLE, LIBRARIES, EXTRAS + "test_nanochat_s_extras_have_the_official_laws",
        EXTRAS + "test_nanochat_s_first_loss_is_that_of_guessing")),
    "ngpt": Proof("ngpt", {"d": 32, "V": 50}, (
        Fact("kernels", "2:402-407", "exact('justnorm(weight, 1)')", "h/0/query"),
        Fact("residual outputs", "2:405-408", "exact('justnorm(weight, 0)')",
             "h/0/att_proj"),
        Fact("embeddings", "2:395", "exact('justnorm(weight, 1)')", "wte"),
        Fact("scales of queries and keys", "1:94-96", "constant(1 / sqrt(d))",
             "h/0/sqk"),
        Fact("scales of steps and logits", "1:86-92", "constant(1 / sqrt(d))", "sz"),
        Fact("scales of gated units", "1:98-100", "constant(1.0)", "h/0/suv"),
    ), (EXTRAS + "test_ngpt_starts_every_vector_on_the_sphere",)),
    "from_hf_config": Proof("llama", LLAMA, (
        Fact("kernels", "1", "normal(0.02)", "layers_1/w2/kernel"),
        Fact("embeddings", "1", "normal(0.02)", "tok_embeddings/embedding"),
        Fact("scales", "1", SCALES, "norm/scale"),
        Fact("biases", "1", BIASES),
    ), (EACH_ROLE, LIBRARIES, CONVENTION),
       {"config": {"model_type": "llama", "initializer_range": 0.02}}),
}  # fmt: skip
