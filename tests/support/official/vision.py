"""Facts about models of images and pairs, and about PyTorch's own layers."""

from tests.support.official.facts import Fact, Proof

D = {"d": 16}
ONE, ZERO = "constant(1)", "constant(0)"
TORCH = "uniform(n**-0.5)"
FILE = "tests/recipes/test_vision.py::"
STDS = FILE + "test_the_std_of_each_role_is_that_of_the_official_code"
NAMES = FILE + "test_names_and_order_do_not_matter"
THREE = (STDS, NAMES)

VISION = {
    "big_vision_vit": Proof("vit", D, (
        Fact("kernels", "1:66-68", "xavier_uniform(n, m)", "mlp0_up/kernel",
             {"n": 16, "m": 64}),
        Fact("other kernels", "", "truncated_lecun(n)", "patches/kernel", {"n": 12}),
        Fact("readout", "1:271", "constant(0)", "head/kernel"),
        Fact("projections", "2", "truncated_lecun(n)", "", {"n": 16}),
        Fact("positions", "1:49", "normal(1 / sqrt(d))", "positions"),
        Fact("class tokens", "1:224", "constant(0)", "token"),
        Fact("probes", "1:172", "xavier_uniform(1, d)"),
        Fact("embeddings", "2", "normal(1 / sqrt(d))"),
        Fact("biases of MLPs", "1:68", "normal(1e-6)", "mlp0_up/bias"),
        Fact("scales", "", ONE, "norm0a/scale"),
        Fact("biases", "", ZERO, "attention0_out/bias"),
    ), THREE),
    "dit": Proof("dit", D, (
        Fact("modulations", "1:207-214", "constant(0)", "modulation0/kernel"),
        Fact("readout", "1:215", "constant(0)", "last/kernel"),
        Fact("conditioning", "1:203-205", "normal(0.02)", "time2/kernel"),
        Fact("embeddings", "1:200-201", "normal(0.02)", "labels/embedding"),
        Fact("query, key, value", "1:184-186", "xavier_uniform(d, 3 * d)",
             "attention0_query/kernel"),
        Fact("kernels", "1:184-186", "xavier_uniform(n, m)", "mlp0_up/kernel",
             {"n": 16, "m": 64}),
        Fact("positions", "1:191-193", "exact('get_2d_sincos_pos_embed')", "positions"),
        Fact("scales", "", ONE),
        Fact("biases", "1:187-188", ZERO, "mlp0_up/bias"),
    ), (*THREE, FILE + "test_dit_gives_zero_and_its_blocks_are_the_identity",
        FILE + "test_dit_has_the_positions_of_its_code")),
    "resnet": Proof("resnet", D, (
        Fact("convolutions", "1", "normal(sqrt(2 / m))", "conv0b/kernel", {"m": 4 * 9}),
        Fact("readout", "", TORCH, "head/kernel", {"n": 16}),
        Fact("biases", "", TORCH, "head/bias", {"n": 16}),
        Fact("scales", "1", ONE, "norm0a/scale"),
    ), (*THREE, FILE + "test_resnet_with_zeros_has_blocks_that_are_their_shortcuts")),
    "unet": Proof("unet", D, (
        Fact("residual outputs", "1:210-212", "constant(0)", "left_conv2/kernel"),
        Fact("readout", "1:615", "constant(0)", "last/kernel"),
        Fact("kernels", "", TORCH, "up/kernel", {"n": 9 * 16}),
        Fact("biases", "", TORCH, "up/bias", {"n": 9 * 16}),
        Fact("embeddings", "1:478", "normal(1.0)", "labels/embedding"),
        Fact("scales", "", ONE, "left_norm1/scale"),
    ), (*THREE, FILE + "test_unet_gives_zero_and_its_blocks_are_their_shortcuts")),
    "vit": Proof("vit", D, (
        Fact("kernels", "1:840", "truncated(0.02)", "mlp0_up/kernel"),
        Fact("positions", "1:594", "truncated(0.02)", "positions"),
        Fact("class tokens", "1:596", "normal(1e-6)", "token"),
        Fact("latents", "2:100", "truncated(d**-0.5, 2 * d**-0.5)"),
        Fact("convolutions", "", TORCH, "patches/kernel", {"n": 12}),
        Fact("scales", "", ONE, "norm0a/scale"),
        Fact("biases", "1:841-842", ZERO, "mlp0_up/bias"),
    ), ("tests/recipes/test_recipes.py::test_laws",
        "tests/recipes/test_branches.py::test_vit_s_patches_and_t5_s_tables")),
    "siglip": Proof("towers", {}, (
        Fact("temperatures", "1:76-78", "constant(log(10))", "scale"),
        Fact("logit biases", "1:83-84", "constant(-10)", "bias"),
    ), (FILE + "test_siglip_s_first_loss_in_closed_form",)),
    "clip": Proof("towers without a bias", {}, (
        Fact("temperatures", "1:295", "constant(log(1 / 0.07))", "scale"),
    ), (FILE + "test_clip_s_first_scale",)),
    "fixup": Proof("residual", {"L": 2}, (
        Fact("residual outputs", "1:69", "constant(0)", "end1/kernel"),
        Fact("branches", "1:68", "normal(sqrt(2 / n) * L**-0.5)", "begin1/kernel",
             {"n": 16}),
        Fact("readout", "1:71", "constant(0)", "head/kernel"),
        Fact("kernels", "2", "normal(sqrt(2 / n))", "stem/kernel", {"n": 12}),
        Fact("multipliers", "1:27", ONE, "multiplier1"),
        Fact("scales", "", ONE),
        Fact("biases", "1:72", ZERO, "head/bias"),
    ), ("tests/recipes/test_branches.py::test_fixup_of_a_convolutional_net",
        "tests/recipes/test_training.py::"
        "test_a_step_changes_a_fixup_network_by_the_same_at_every_depth")),
    "torch_defaults": Proof("transformer", {"d": 32}, (
        Fact("kernels", "1", TORCH, "Block_0/Dense_1/kernel", {"n": 128}),
        Fact("biases", "1", TORCH, "Block_0/Dense_1/bias", {"n": 128}),
        Fact("query, key, value", "2", "xavier_uniform(d, 3 * d)",
             "Block_0/MultiHeadDotProductAttention_0/query/kernel"),
        Fact("recurrent", "2", "uniform(hidden**-0.5)", "", {"hidden": 20}),
        Fact("embeddings", "2", "normal(1.0)", "Embed_0/embedding"),
        Fact("scales", "2", ONE, "LayerNorm_0/scale"),
    ), ("tests/recipes/test_torch.py::test_torch_s_laws",
        "tests/recipes/test_torch.py::test_torch_itself_agrees")),
}  # fmt: skip
