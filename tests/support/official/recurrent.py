"""Facts about recurrent and state-space models, and about hyper-connections."""

from tests.support.official.facts import Fact, Proof

ONE, ZERO = "constant(1)", "constant(0)"
D = {"d": 16, "L": 2, "V": 40, "k": 4}
TORCH, WINDOW = "uniform(n**-0.5)", "uniform(k**-0.5)"
FILE = "tests/recipes/test_recurrent.py::"
LAWS = FILE + "test_the_laws_of_the_layers_are_the_official_ones"
DECAYS = FILE + "test_decays_and_steps_of_state_spaces"
EMBEDDINGS = FILE + "test_embeddings"
STEPS = "exact('inverse softplus of exp(U(log 0.001, log 0.1))')"


def _delta(decay: str, decays: str, lines: str) -> tuple[Fact, ...]:
    """Return the facts of flash-linear-attention's layers with a delta rule."""
    return (
        Fact("decays", decay, decays, "layer_1_a_log"),
        Fact("step biases", lines, STEPS, "layer_1_dt"),
        Fact("convolutions", "", WINDOW, "layer_1_k_conv.kernel"),
        Fact("kernels", "", TORCH, "layer_1_down.kernel", {"n": 32}),
        Fact("embeddings", "2", "normal(0.02)", "embed.kernel"),
        Fact("scales", "", ONE, "layer_1_norm.scale"),
        Fact("biases", "", TORCH, "", {"n": 16}),
    )


RECURRENT = {
    "mamba2": Proof("mamba2", D, (
        Fact("decays", "1:132-135", "exact('log U(1, 16)')", "layer_1_a_log"),
        Fact("step biases", "1:119-127", STEPS, "layer_1_dt"),
        Fact("skips", "1:139", ONE, "layer_1_skip"),
        Fact("residual outputs", "2:116-121", "uniform((n * L) ** -0.5)",
             "layer_1_out.kernel", {"n": 32}),
        Fact("convolutions", "", WINDOW, "layer_1_conv.kernel"),
        Fact("kernels", "", TORCH, "layer_1_in.kernel", {"n": 16}),
        Fact("embeddings", "2:104", "normal(0.02)", "embed.kernel"),
        Fact("scales", "", ONE, "layer_1_norm.scale"),
        Fact("biases", "2:102", ZERO),
    ), (LAWS, DECAYS, EMBEDDINGS)),
    "gated_deltanet": Proof("gated_deltanet", D,
        _delta("1:151-152", "exact('log U(0, 16)')", "1:157-165"), (LAWS, DECAYS)),
    "kda": Proof("kda", D,
        _delta("1:178", "exact('log U(1, 16)')", "1:180-184"),
        (LAWS, DECAYS, EMBEDDINGS, FILE + "test_a_safe_gate_of_kda_has_rates_of_1")),
    "griffin": Proof("griffin", D, (
        Fact("decays", "1:142-165", "exact('0.5 log U(0.9^2, 0.999^2)')",
             "layer_1_lambda"),
        Fact("residual outputs", "2:286-292", "normal(sqrt(2 / L / n))",
             "layer_1_down.kernel", {"n": 48}),
        Fact("convolutions", "1:495-506", "normal(sqrt(0.01 / k))",
             "layer_1_conv.kernel"),
        Fact("kernels", "2:476-482", "normal(n**-0.5)", "layer_1_x.kernel", {"n": 16}),
        Fact("embeddings", "2:910-919", "normal(d**-0.5)", "embed.kernel"),
        Fact("scales", "1:49-51", "constant(0)", "layer_1_norm_scale"),
        Fact("biases", "1:120", ZERO, "layer_1_x.bias"),
    ), (LAWS, FILE + "test_the_decay_of_griffin_lies_on_a_ring", EMBEDDINGS)),
    "xlstm": Proof("xlstm", D, (
        Fact("forget biases", "2:137", "exact('linspace(3, 6)')", "layer_1_fgate.bias"),
        Fact("input biases", "2:140", "normal(0.1)", "layer_1_igate.bias"),
        Fact("gates", "2:135-139", "constant(0)", "layer_1_igate.kernel"),
        Fact("residual outputs", "3:164", "normal(2 / L / sqrt(d))",
             "layer_1_down.kernel"),
        Fact("convolutions", "", WINDOW, "layer_1_conv.kernel"),
        Fact("kernels", "3:160", "normal(sqrt(2 / (5 * d)))", "layer_1_up.kernel"),
        Fact("embeddings", "1:18-24", "normal(sqrt(2 / (5 * d)))", "embed.kernel"),
        Fact("skips", "3:168", ONE, "layer_1_skip"),
        Fact("scales", "", ONE, "layer_1_norm.scale"),
        Fact("biases", "3:161-166", ZERO),
    ), (LAWS, FILE + "test_the_forget_gates_of_xlstm_are_open", EMBEDDINGS)),
    "rwkv7": Proof("rwkv7", D, (
        Fact("decays", "1:541-546", "exact('www + 0.5 + zigzag * 2.5')",
             "blocks_1.att.w0"),
        Fact("mixes", "1:513-518", "exact('1 - (n / d)^(p (1 - l / L))')",
             "blocks_1.att.x_r"),
        Fact("mixes", "1:713", "exact('1 - (n / d)^((1 - l / L)^4)')",
             "blocks_1.ffn.x_k"),
        Fact("vectors", "1:551-565", "exact('curves over the channels')",
             "blocks_1.att.a0"),
        Fact("pairs of low rank", "1:544-561", "exact('zeros, and orthogonal of 0.1')",
             "blocks_1.att.w2"),
        Fact("kernels", "1:574-576", "uniform(0.5 / d**0.5)",
             "blocks_1.att.receptance.kernel"),
        Fact("kernels", "1:575", "uniform(0.05 / d**0.5)", "blocks_1.att.key.kernel"),
        Fact("residual outputs", "1:577", "constant(0)", "blocks_1.att.output.kernel"),
        Fact("embeddings", "1:918-921", "uniform(1e-4)", "emb.kernel"),
        Fact("readout", "1:923-929", "exact('orthogonal of 0.5 sqrt(V / d)')",
             "head.kernel"),
        Fact("scales", "", ONE, "ln0.scale"),
        Fact("biases", "", ZERO, "ln0.bias"),
    ), (FILE + "test_rwkv7_has_the_official_laws",
        FILE + "test_the_branches_of_rwkv7_are_0",
        FILE + "test_the_layers_of_a_scan_have_their_own_decays")),
    "hyper_connections": Proof("hyper_connections", D, (
        Fact("alphas", "1:229-232", "exact('one row of ones, and eye')",
             "connection_1_0_static_alpha"),
        Fact("betas", "1:242", ONE, "connection_1_0_static_beta"),
        Fact("dynamic kernels", "1:234-245", "constant(0)",
             "connection_1_0_dynamic_alpha"),
        Fact("dynamic scales", "1:235-247", "constant(0.01)",
             "connection_1_0_alpha_scale"),
        Fact("kernels", "", TORCH, "up_1.kernel", {"n": 16}),
        Fact("biases", "", TORCH, "", {"n": 16}),
        Fact("query, key, value", "", "xavier_uniform(d, 3 * d)", "q_1.kernel"),
        Fact("recurrent", "", "uniform(hidden**-0.5)", "", {"hidden": 16}),
        Fact("embeddings", "", "normal(1.0)", "embed.kernel"),
        Fact("scales", "", ONE, "norm.scale"),
    ), (FILE + "test_hyper_connections_start_as_a_residual_network",)),
}  # fmt: skip
