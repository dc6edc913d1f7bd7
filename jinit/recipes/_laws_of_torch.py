"""PyTorch's laws fit the parameters of a network, in whatever library it is written."""

from typing import Any

from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._network.record import Network
from .._scale.fans import fans
from .._schemes.constant import zeros
from .._schemes.fan_based import xavier
from .._schemes.scaled_uniform import scaled_uniform

_ATTENTION = frozenset(("query", "key", "value"))


class LawsOfTorch:
    """A LawsOfTorch gives each parameter of a network the law of torch's layers.

    Each method is a function (path, parameter) -> initializer.
    """

    def __init__(self, network: Network) -> None:
        self.parameters = network.parameters
        recurrent = [p for p in self.parameters.values() if "recurrent" in p.roles]
        # The state is what comes from the kernels of the cell, also those that read
        # the inputs, and it has as many units as a recurrent kernel has inputs.
        self.hidden = {
            path: p.fans.fan_in
            for p in recurrent
            if p.fans is not None
            for path in (*p.inputs, p.path)
        }

    def kernel(self, _path: str, p: Parameter) -> Initializer:
        """Return U(+-1 / sqrt(n)) of a layer."""
        number = self._under_the_root(p)
        # The plan shows both fans where the law takes the fan_in of the network.
        is_fan_in = p.fans is not None and number == p.fans.fan_in
        return scaled_uniform() if is_fan_in else scaled_uniform(fan_in=number)

    def bias(self, _path: str, p: Parameter) -> Initializer:
        """Return the law of the layer before a bias, and 0 in attention and norms."""
        layer = self.layer_of(p)
        # torch.nn.MultiheadAttention sets the biases of all four layers to 0.
        if layer is None or layer.roles & {*_ATTENTION, "attention_output"}:
            return zeros
        return scaled_uniform(fan_in=self._under_the_root(layer))

    def bias_of_window(self, path: str, p: Parameter) -> Initializer:
        """Return the law of the bias of a convolution, and 0 for other biases."""
        layer = self.layer_of(p)
        is_window = layer is not None and "convolution" in layer.roles
        return self.bias(path, p) if is_window else zeros

    def attention(self, _path: str, p: Parameter) -> Initializer:
        """Return Xavier's law, for the packed kernel if query, key and value fit.

        If all three read the same inputs, PyTorch packs them into one kernel of shape
        (d, 3 d), whose fan_out counts three times.
        """
        if p.fans is None or len(p.roles & _ATTENTION) > 1:
            return xavier(distribution="uniform")
        beside = [
            other
            for other in self.parameters.values()
            if other.roles & _ATTENTION and other.inputs == p.inputs
        ]
        is_packed = all(other.fans == p.fans for other in beside) and (
            frozenset().union(*(other.roles for other in beside)) >= _ATTENTION
        )
        fan_in, fan_out = p.fans
        # Xavier's variance 2 / (d + 3 d) is half of that of a square kernel.
        outputs = 3 * fan_out if is_packed else fan_out
        return xavier(distribution="uniform", fan_in=fan_in, fan_out=outputs)

    def layer_of(self, p: Parameter) -> Parameter | None:
        """Return the layer whose outputs a bias is added to, or None behind a norm."""
        layers: list[Any] = [self.parameters.get(path) for path in p.inputs]
        kernels = [x for x in layers if x is not None and x.fans is not None]
        return kernels[-1] if kernels and len(kernels) == len(layers) else None

    def _under_the_root(self, p: Parameter) -> int:
        """Return n of U(+-1 / sqrt(n)): fan_in, or the hidden units of a cell."""
        # torch.nn.RNNBase draws all its arrays from U(+-1 / sqrt(hidden)), those of the
        # inputs too.
        if p.path in self.hidden:
            return self.hidden[p.path]
        if p.fans is None:
            raise ValueError(
                f"PyTorch's law of {p.path!r} {p.shape} counts its inputs, and the "
                f"network does not show them: {p.reason}. Put a rule for it before the "
                "recipe's."
            )
        if p.layout is None or "convolution" not in p.roles:
            return p.fans.fan_in
        counted = fans(p.shape, p.layout, groups=p.groups)
        # The stride of a transposed convolution keeps taps from an output. PyTorch
        # stores such a kernel as (in, out, *window) and counts its fans as those of
        # (out, in, *window), so that its fan_in is this kernel's fan_out.
        return counted.fan_in if counted == p.fans else counted.fan_out
