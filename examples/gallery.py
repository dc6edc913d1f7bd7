"""Draw every scheme into one picture: its entries, singular values and histogram.

Each scheme of `jinit.registry` is drawn once at a small shape. An image shows the
matrix; for kernels of more axes it shows the last two axes, with the taps of the window
side by side. Beside it are the singular values, and a histogram of the entries under
the law's density, with dashed lines at their mean plus and minus the standard deviation
that `std(shape)` gives. A scheme that takes a weight or data gets an example of them.

    python -m examples.gallery --help
"""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rich.progress import track

import jinit
from examples import _cli, _densities, _figures
from examples._cli import option, parse

DENSE = (48, 32)
CONV = (3, 3, 8, 16)

# Not every scheme can be made without settings, or drawn at the shape DENSE.
SETTINGS: dict[str, dict[str, Any]] = {
    "variance_scaling": {"scale": 1.0, "mode": "fan_in", "distribution": "normal"},
    "constant": {"value": 0.5},
    "sparse": {"sparsity": 0.7},
    "constant_bias_from_prior": {"prior": 0.01},
    "recurrent.chrono": {"t_max": 100.0},
    **{f"ssm.s4d_{kind}": {"part": "imag"} for kind in ("lin", "inv", "legs")},
    "ssm.rwkv7_decay": {"layer": 5, "num_layers": 12, "head_size": 8},
    "ssm.rwkv7_mix": {"part": "k", "layer": 5, "num_layers": 12},
    "ssm.rwkv7_vector": {"part": "r_k", "head_size": 8},
    "wang_init": {"num_layers": 12},
    "layer_scale": {"depth": 24},
    "hyperfan_in": {"shape_of_generated": (8, 4)},
    "hyperfan_out": {"shape_of_generated": (8, 4)},
    "mimetic_attention": {"part": "query"},
    "stacked": {"init": jinit.he()},
    "depth_scaled": {"init": jinit.he()},
    "blocks": {"inits": (jinit.xavier(), jinit.normal(0.02))},
    "padded": {"init": jinit.he(), "widths": ((4, 4), (2, 2))},
    "transposed": {"init": jinit.lecun()},
    "with_dtype": {"init": jinit.he(), "dtype": "float32"},
    "torch_layout": {"init": jinit.he(layout="oi")},
    "scaled": {"init": jinit.he(), "factor": 0.5},
    "masked": {"mask": np.tri(*DENSE, dtype=bool), "a": jinit.he(), "b": jinit.zeros},
    "concat": {"inits": [jinit.he(), jinit.zeros], "axis": 0},
    "from_array": {"array": np.hypot(*np.ogrid[-24:24, -16:16]) / 29},
    "icnr": {"init": jinit.he(), "factor": 2},
}
SHAPES: dict[str, tuple[int, ...]] = {
    "delta_orthogonal": CONV,
    "dirac": CONV,
    "icnr": CONV,
    "bilinear": (5, 5, 4, 4),
    "hadamard": (32, 32),
    "hyper_alpha": (4, 5),
    "stft": (64, 1, 33),
    "stacked": (3, 16, 32),
    "depth_scaled": (3, 16, 32),
    "recurrent.identity": (32, 32),
    "ssm.hippo_legs": (32, 32),
    "ssm.rwkv7_decay": (1, 32),
    "ssm.rwkv7_mix": (1, 32),
    "mimetic_attention": (48, 2, 16),
    "constant_bias_from_prior": (1, 32),
    "layer_scale": (1, 32),
    "recurrent.unit_forget_bias": (1, 64),
    "recurrent.chrono": (1, 64),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw every scheme into one picture."""

    schemes: tuple[str, ...] = option((), "names of schemes; by default all")
    seed: int = option(0, "seed of all keys", least=0)
    dpi: int = option(80, "dots per inch of the picture")
    out: str = option("results/gallery.png", "the file of the picture")


def samples(key: jax.Array) -> Iterator[tuple[str, np.ndarray, float | None]]:
    """Yield the name of each scheme, an array that it draws, and the promised std."""
    for number, (name, entry) in enumerate(jinit.registry.items()):
        scheme_key = jax.random.fold_in(key, number)
        if name in ("pissa", "olora"):
            w = jinit.he()(scheme_key, DENSE)
            yield name, np.asarray(entry.maker(w, 8).residual), None
        elif name == "whitening_conv":
            images = np.asarray(jax.random.normal(scheme_key, (40, 8, 8, 2))).cumsum(
                axis=1
            )
            init = entry.maker(images, window=(2, 2))
            yield name, np.asarray(init(scheme_key, (2, 2, 2, 16))), None
        else:
            init, shape = _init(name), SHAPES.get(name, DENSE)
            yield name, np.asarray(init(scheme_key, shape)), init.std(shape)


def _init(name: str) -> jinit.Initializer:
    """Return an initializer of a scheme, the first one if it makes several."""
    made: Any = jinit.get(name, **SETTINGS.get(name, {}))
    return made[0] if isinstance(made, tuple) else made


def main(argv: list[str] | None = None) -> int:
    """Draw the schemes into one picture."""
    options = parse(Options, argv)
    console = _cli.console(100)
    chosen = set(options.schemes or jinit.registry)
    if unknown := chosen - set(jinit.registry):
        console.print(
            f"unknown schemes: {', '.join(sorted(unknown))}; see jinit.registry"
        )
        return 2
    every = samples(jax.random.key(options.seed))
    drawn = [sample for sample in every if sample[0] in chosen]
    columns = 4
    rows = -(-len(drawn) // columns)
    page = plt.figure(figsize=(5 * columns, 1.6 * rows), layout="constrained")
    places = page.subfigures(rows, columns, squeeze=False).ravel()
    pairs = list(zip(places, drawn, strict=False))
    for place, (name, array, std) in track(
        pairs, "drawing", console=console, transient=True,
        disable=not console.is_terminal,
    ):  # fmt: skip
        panel(place, name, array, std)
    legend(page)
    out = pathlib.Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    page.savefig(out, dpi=options.dpi)
    plt.close(page)
    console.print(f"{len(drawn)} schemes in {out}", soft_wrap=True)
    return 0


def panel(
    place: FigureBase,
    name: str,
    array: np.ndarray,
    std: float | None,
    *,
    labels: bool = False,
) -> None:
    """Draw a matrix, its singular values, and the histogram of its entries.

    The law's density lies over the histogram, where the law has one that is known. With
    `labels` the axes have names and scales, for a figure of one scheme.
    """
    image, spectrum, histogram = place.subplots(1, 3)
    flat = np.real(array).ravel()
    matrix = _as_image(np.real(array))
    limit = max(float(np.abs(matrix).max()), 1e-12)
    shown = image.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    values = np.linalg.svd(_as_matrix(array), compute_uv=False)
    index = np.arange(1, len(values) + 1)
    spectrum.plot(index, values, linewidth=1, marker="." if len(values) == 1 else "")
    spectrum.set_ylim(0, 1.1 * max(float(values.max()), 1e-12))
    histogram.hist(flat, bins=40, range=(-limit, limit), color="gray", density=True,
                   label="the draw")  # fmt: skip
    top = histogram.get_ylim()[1]
    x = np.linspace(-1.2 * limit, 1.2 * limit, 601)
    density = _densities.density(name, init_or_none(name), array, std, x)
    if density is not None:
        histogram.plot(x, density, color=_figures.COLORS[0], linewidth=1.5,
                       label="the law")  # fmt: skip
        top = max(top, 1.1 * float(np.median(density[density > 0])))
    for side in () if not std else (-std, std):
        histogram.axvline(
            flat.mean() + side, color=_figures.COLORS[-1], linewidth=1, linestyle="--",
            label="mean $\\pm$ std" if side < 0 else None,
        )  # fmt: skip
    histogram.set_ylim(0, top)
    if labels:
        place.colorbar(shown, ax=image)
        image.set_title(f"the entries, {tuple(array.shape)}", fontsize=10)
        image.set(xlabel=_axis_name(array, -1), ylabel=_axis_name(array, -2))
        spectrum.set_title("singular values", fontsize=10)
        spectrum.set(xlabel="index", ylabel="value")
        promise = "" if not std else f", std {std:.3g}"
        histogram.set_title(f"histogram{promise}", fontsize=10)
        histogram.set(xlabel="entry", ylabel="density")
        histogram.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize=8,
            handlelength=1.2, columnspacing=1,
        )  # fmt: skip
        return
    image.set_title(name, fontsize=8, loc="left")
    spectrum.set_title(f"{tuple(array.shape)}", fontsize=6)
    histogram.set_title("" if std is None else f"std {std:.3g}", fontsize=6)
    image.set(xticks=[], yticks=[])
    spectrum.set(xticks=[1, len(values)], yticks=[0, float(values.max())])
    histogram.set(xticks=[-limit, 0, limit], yticks=[])
    spectrum.set_yticklabels(["0", f"{values.max():.2g}"])
    histogram.set_xticklabels([f"{-limit:.2g}", "0", f"{limit:.2g}"])
    for axes in (spectrum, histogram):
        axes.tick_params(labelsize=5, length=2, pad=1)


def legend(page: Figure) -> None:
    """Say once for a page of many schemes what their panels show."""
    handles = [
        Patch(color=plt.get_cmap("RdBu")(0.85), label="image: entries above 0"),
        Patch(color=plt.get_cmap("RdBu")(0.15), label="image: entries below 0"),
        Line2D([], [], color="C0", label="curve: singular values by index"),
        Patch(color="gray", label="histogram: entries of the draw"),
        Line2D([], [], color=_figures.COLORS[0], label="histogram: density of the law"),
        Line2D([], [], color=_figures.COLORS[-1], linestyle="--",
               label="histogram: mean plus and minus std"),
    ]  # fmt: skip
    page.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=10)


def _axis_name(array: np.ndarray, axis: int) -> str:
    """Return the name of an axis of the image; taps of a window lie side by side."""
    if array.ndim < 2:
        return "entry" if axis == -1 else ""
    beside = ", taps beside each other" if array.ndim > 2 else ""
    return f"axis {array.ndim + axis}{beside}"


def init_or_none(name: str) -> jinit.Initializer | None:
    """Return the initializer of a scheme, or None if a weight or data made it."""
    return None if name in ("pissa", "olora", "whitening_conv") else _init(name)


def _as_matrix(array: np.ndarray) -> np.ndarray:
    """Return a matrix whose columns are the last axis of the array."""
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[None]


def _as_image(array: np.ndarray) -> np.ndarray:
    """Return the matrices of the last two axes side by side."""
    if array.ndim <= 2:
        return np.atleast_2d(array)
    taps = array.reshape(-1, *array.shape[-2:])
    across = math.isqrt(len(taps) - 1) + 1 if len(taps) > 1 else 1
    blank = np.zeros((-len(taps) % across, *taps.shape[1:]))
    rows = np.concatenate([taps, blank]).reshape(-1, across, *taps.shape[1:])
    return rows.transpose(0, 2, 1, 3).reshape(-1, across * taps.shape[2])


if __name__ == "__main__":
    sys.exit(main())
