"""What layers of a kind start from: embeddings, PyTorch's layers, classifier biases."""

from .._initializer.entry import Entry
from .classifier import constant_bias_from_prior
from .embedding import embedding
from .scaled_uniform import scaled_uniform

ENTRIES = (
    Entry(
        "embedding",
        embedding,
        "normal",
        "std = 1 / sqrt(d)",
        "embedding tables",
        "Raffel et al. 2019",
        "rows have norm 1, entries 1 / sqrt(d)",
    ),
    Entry(
        "scaled_uniform",
        scaled_uniform,
        "uniform",
        "limit = 1 / sqrt(n_in)",
        "PyTorch's default, also of its biases",
        "LeCun, Bottou, Orr and Mueller 1998",
        "a bias needs `fan_in`; under relu the signal dies: variance / 6 a layer",
    ),
    Entry(
        "constant_bias_from_prior",
        constant_bias_from_prior,
        "constant",
        "b = log(p / (1 - p)), or log p_c",
        "classifiers of unbalanced classes",
        "Lin, Goyal, Girshick, He and Dollar 2017",
        "the share of positives, not the weight of the class",
    ),
)
