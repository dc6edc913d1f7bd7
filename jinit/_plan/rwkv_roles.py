"""In a network the parts of RWKV-7's time mixing are read from equations.

Its kernels read one normalized stream, each through a separate mix with the token
before. Pairs of low rank give the decay w, the rates a, the share v of the values of
the first layer, and the gate g. Their multipliers and biases distinguish the pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._network.reader.factors import MULTIPLIES_DATA
from .._network.reader.records import Parameter
from .._network.record import Network
from .recurrent_roles import scanned_axes


class Place(NamedTuple):
    """A Place says what a parameter is in RWKV-7: its name in the official code.

    `start` is the index of its layer, or of the first one in a scan, where the index
    grows by `step` along `axis`.
    """

    part: str
    start: int
    axis: int | None = None
    step: int = 1


class Rwkv(NamedTuple):
    """An Rwkv has the places of the parts of RWKV-7, by path, and counts the layers."""

    places: Mapping[str, Place]
    num_layers: int


def rwkv_of(net: Network) -> Rwkv:
    """Return what each parameter of the time and channel mixing is.

    Parts are "w0", "x_r", "receptance", ..., and "ffn_x_k" and "ffn_key" for those of
    the channel mixing.
    """
    passages: Any = net._read.reading.passages
    times = [
        _TimeMix(net, passages, bias).parts_by_path()
        for bias in net.parameters.values()
        if _is_decay(net, passages, bias)
    ]
    known = {path for parts in times for path in parts}
    channels = [
        {p.path: "ffn_key"} | dict.fromkeys(passages[p.path].mixes, "ffn_x_k")
        for p in _channel_kernels(net, passages, known)
    ]
    places, number = _numbered(net, times)
    # The time mixings and the channel mixings count the same layers.
    more, _ = _numbered(net, channels)
    return Rwkv(places | more, number)


def _numbered(
    net: Network, layers: Sequence[Mapping[str, str]]
) -> tuple[dict[str, Place], int]:
    """Return the places of parts of layers that are in order, and count the layers."""
    places: dict[str, Place] = {}
    start = 0
    for parts in layers:
        length, is_reverse = _loop_around(net, next(iter(parts)))
        first, step = (start + length - 1, -1) if is_reverse else (start, 1)
        for path, part in parts.items():
            axis = next(iter(scanned_axes(net, path)), None)
            places[path] = Place(part, first if axis is not None else start, axis, step)
        start += length
    return places, start


def _loop_around(net: Network, path: str) -> tuple[int, bool]:
    """Return the length of the scan of a parameter's layers, and if it is reverse."""
    reading = net._read.reading
    loops = {loop.number: loop for place in reading.places for loop in place.loops}
    for number, axis in reading.steps.get(path, {}).items():
        if axis is not None and number in loops:
            return loops[number].length, loops[number].reverse
    return 1, False


def _is_decay(net: Network, passages: Any, bias: Parameter) -> bool:
    """Tell whether a bias follows a pair of low rank and precedes exponentials."""
    if "bias" not in bias.roles or bias.path not in passages:
        return False
    above = _one_input(net, bias)
    first = None if above is None else _one_input(net, above)
    is_pair = first is not None and "matrix" in first.roles
    # The official decay is exp(-exp(-softplus(-w) - 0.5)).
    return is_pair and bool(passages[bias.path].after & {"exp", "log1p"})


def _channel_kernels(
    net: Network, passages: Any, known: set[str]
) -> Iterable[Parameter]:
    """Return the kernels outside of time mixing that read a mix of two tokens."""
    return [
        p
        for p in net.parameters.values()
        if "matrix" in p.roles and p.path not in known and p.path in passages
        if passages[p.path].mixes and not set(passages[p.path].mixes) & known
    ]


def _one_input(net: Network, p: Parameter) -> Parameter | None:
    return net.parameters.get(p.inputs[0]) if len(p.inputs) == 1 else None


class _TimeMix:
    """A _TimeMix finds the parts of one time mixing, around the bias of its decay."""

    def __init__(self, net: Network, passages: Any, w0: Parameter) -> None:
        self.net, self.passages = net, passages
        self.parts: dict[str, str] = {"w0": w0.path, "w2": w0.inputs[0]}
        self.parts["w1"] = net.parameters[w0.inputs[0]].inputs[0]
        self.source = net.parameters[self.parts["w1"]].inputs
        parameters = net.parameters.values()
        matrices = [p for p in parameters if "matrix" in p.roles]
        self.readers = [p.path for p in matrices if p.inputs == self.source]
        # The second factor of a pair, by its first.
        self.pairs = {
            p.inputs[0]: p.path
            for p in matrices
            if len(p.inputs) == 1 and p.inputs[0] in self.readers and _outputs(p)
        }

    def parts_by_path(self) -> dict[str, str]:
        """Return the names of the parts, by path."""
        self._find_pairs()
        self._find_kernels()
        self._find_mixes()
        return {path: part for part, path in self.parts.items()}

    def _find_pairs(self) -> None:
        seconds = {second: first for first, second in self.pairs.items()}
        biases = {
            p.inputs[0]: p.path
            for p in self.net.parameters.values()
            if "bias" in p.roles and len(p.inputs) == 1
        }
        # k_a multiplies the rates, so their pair differs from that of the values.
        for p in self._multipliers():
            if len(p.inputs) == 1 and p.inputs[0] in seconds:
                self._add("a", seconds, biases, p.inputs[0])
                self.parts["k_a"] = p.path
        for second in seconds:
            if second not in self.parts.values():
                letter = "v" if second in biases else "g"
                self._add(letter, seconds, biases, second)

    def _add(
        self,
        letter: str,
        seconds: Mapping[str, str],
        biases: Mapping[str, str],
        second: str,
    ) -> None:
        self.parts |= {f"{letter}1": seconds[second], f"{letter}2": second}
        if second in biases:
            self.parts[f"{letter}0"] = biases[second]

    def _find_kernels(self) -> None:
        rest = [path for path in self.readers if path not in self.pairs]
        for p in self._multipliers():
            if len(p.inputs) == 1 and p.inputs[0] in rest:
                self.parts |= {"key": p.inputs[0], "k_k": p.path}
        key = self.parts.get("key")
        for p in self.net.parameters.values():
            others = [path for path in p.inputs if path in rest and path != key]
            # The product with r_k is summed within a head, so r_k has no outputs.
            if key in p.inputs and len(others) == 1 and p.layout and not _outputs(p):
                self.parts |= {"r_k": p.path, "receptance": others[0]}
        known = {key, self.parts.get("receptance")}
        values = [path for path in rest if path not in known]
        if len(values) == 1:
            self.parts["value"] = values[0]
        for p in self.net.parameters.values():
            if "scale" in p.roles and self.parts.get("receptance") in p.inputs:
                self.parts["ln_x"] = p.path

    def _find_mixes(self) -> None:
        kernels = {"r": "receptance", "k": "key", "v": "value"}
        for letter in "rwkvag":
            path = self.parts.get(kernels.get(letter, f"{letter}1"))
            for mix in self.passages[path].mixes if path else ():
                self.parts[f"x_{letter}"] = mix

    def _multipliers(self) -> list[Parameter]:
        parameters = self.net.parameters.values()
        return [p for p in parameters if p.reason == MULTIPLIES_DATA]


def _outputs(p: Parameter) -> bool:
    return "o" in (p.layout or "")
