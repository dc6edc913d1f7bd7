"""A `Parametrization` holds the factors of every tensor, and applies them.

`init` and `rules` set the std of parameters, `optimizer` the learning rates, and
`readout_scale` and `residual_scale` are for the model.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .._core.results import Result, Table, plain
from .._core.trees import listed
from ._decay_rule import decay_rule
from ._factors import Tensor
from ._muon import dimension_numbers, labelled, text_of
from ._optimizer import wrapped
from ._plain_tensors import cell_of, config_of, tensor_from
from ._remarks import enumerated
from ._rescale import rescaled, rescaled_rules

_COLUMNS = ("path", "shape", "class", "grows", "std", "multiplier", "lr", "decay")


@dataclasses.dataclass(frozen=True, repr=False)
class Parametrization(Result):
    """A parametrization starts and trains every tensor so that rates transfer.

    `mup.infer`, `mup.from_rules`, `mup.spectral` and `mup.unit_scaling` make it.
    `print(p)` shows a table, and `p.rows` has the same content as plain data. std and
    rates are factors relative to the base model; those of `mup.spectral` and
    `mup.unit_scaling` are absolute. The decay factor is for a parameter group of an
    optimizer: with the rate f lr it is 1 / f, so that the product of rate and decay
    stays the same.

    Example:
      >>> import jax, jinit
      >>> def shapes(d):
      ...     return {"hidden": jax.ShapeDtypeStruct((d, d), "float32")}
      >>> p = jinit.mup.infer(shapes(64), shapes(256))
      >>> p.rows[0]["class"], p.rows[0]["std"], p.rows[0]["lr"], p.rows[0]["decay"]
      ('hidden', 0.5, 0.25, 4.0)
    """

    tensors: tuple[Tensor, ...]
    kind: str = "adam"
    absolute: bool = False
    residual_scale: float = 1.0
    depth_rule: str | None = None
    remarks: tuple[str, ...] = ()
    # Plain data has no form for the structure of the tree.
    structure: Any = dataclasses.field(default=None, compare=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the tensors as dicts of plain data, in the order of the tree."""
        return [self._row(tensor) for tensor in self.tensors]

    def _row(self, tensor: Tensor) -> dict[str, Any]:
        rate = tensor.rate(self.kind)
        return {
            "path": tensor.path,
            "shape": tensor.shape,
            "class": tensor.moe or tensor.mup_class,
            "grows": tensor.axes,
            "std": tensor.factors.std,
            "multiplier": tensor.factors.multiplier,
            "lr": rate,
            "decay": 1 / rate,
            "epsilon": tensor.factors.epsilon,
        }

    @property
    def readout_scale(self) -> float:
        """Return the factor of the logits: 1 / n for readouts with n times the inputs.

        It is 1 if no tensor is a readout. Outputs that feed other layers do not count.
        Multiply the input of the readout if it has a bias: the bias has no inputs, and
        after the layer the factor would make it move n times too slowly.

        Raises:
          ValueError: if output tensors have different multipliers; see `rows`.
        """
        outputs = self._readouts
        multipliers = {t.factors.multiplier for t in outputs}
        # Two readouts may read layers of which one grows more than the other.
        if len(multipliers) > 1:
            lines = [f"{t.path!r}: {t.factors.multiplier:g}" for t in outputs]
            raise ValueError(
                "the output tensors have different multipliers, so there is no single "
                f"`readout_scale`:{listed(lines)}\nTake each from p.rows, or pass "
                "readout='weights', which needs none."
            )
        # A model without a readout, such as an encoder, has nothing to multiply.
        return multipliers.pop() if multipliers else 1.0

    @property
    def _readouts(self) -> list[Tensor]:
        """Return the outputs whose factor is a multiplier in the model."""
        return [t for t in self.tensors if t.mup_class == "output" and not t.is_folded]

    @property
    def is_noop(self) -> bool:
        """Tell whether every factor is 1, since base and target are equal."""
        return not self.absolute and self.residual_scale == 1 and all(
            factor == 1 for tensor in self.tensors for factor in tensor.factors
        )  # fmt: skip

    def __repr__(self) -> str:
        return str(self)

    def _table(self) -> Table:
        lines = [tuple(map(cell_of, map(row.get, _COLUMNS))) for row in self.rows]
        # Without the sign a factor of 1 would be read as a std of 1.
        x = "" if self.absolute else "x "
        rate = f"{x}lr ({self.kind})"
        head = (*_COLUMNS[:4], f"{x}std", "multiplier", rate, f"{x}decay")
        return Table(head, lines, below=self._notes())

    def _notes(self) -> list[str]:
        notes = []
        if self.is_noop:
            notes.append(
                "- base and target are equal: every factor is 1, and nothing changes"
            )
        scales = {t.factors.multiplier for t in self._readouts}
        if scales - {1.0}:
            values = ", ".join(f"{value:.4g}" for value in sorted(scales))
            paths = enumerated([tensor.path for tensor in self._readouts])
            notes.append(
                f"- multiply the logits by p.readout_scale = {values} ({paths})"
            )
        if self.residual_scale != 1:
            notes.append(
                "- multiply each residual branch by p.residual_scale = "
                f"{self.residual_scale:.4g} ({self.depth_rule})"
            )
        if self.absolute:
            notes.append("- std and lr are absolute, not relative to a base model")
        return notes + [f"- {text}" for text in self.remarks]

    def init(self, params: Any, *, drawn: Any = None) -> Any:
        """Rescale freshly drawn parameters of the target width to the right std.

        w <- w (std factor) / (growth of the initializer's own std): a std of
        1 / sqrt(fan_in) has shrunk by n^(-1/2) from base to target already. So hidden
        kernels of lecun, he and the like stay, and outputs are multiplied by sqrt(n).

        The growth was measured if the parametrization was made from arrays at both
        widths. Otherwise it is that of Flax's defaults: 1 / sqrt(fan_in) for kernels,
        and for `Embed` 1 / sqrt(features), so that a leaf called "embedding" is
        multiplied by sqrt(n), to its size at the base width. Vectors and scalars stay.
        Absolute parametrizations set the rms of each tensor. Call it once: a second
        call would rescale again.

        Args:
          params: parameters, variables or an `nnx.State`, just drawn; of a network
            `net.params`.
          drawn: the way in which the std of the initializers depends on the shape:
            "fan_in", "fan_out", "fan_avg" (Xavier), or "constant" (`normal(0.02)`); or
            pairs (pattern, one of these) for some leaves. By default the growth is the
            measured one, or that of Flax's defaults.

        Returns:
          A tree of the same kind. At the base width it has the arrays of `params`.

        Raises:
          ValueError: if the parametrization does not know a leaf, or it has another
            shape.

        Example:
          >>> import flax.linen as nn, jax, jinit
          >>> x = jax.numpy.ones((1, 8))
          >>> def drawn(d):
          ...     model = nn.Sequential([nn.Dense(d), nn.relu, nn.Dense(10)])
          ...     return model.init(jax.random.key(0), x)
          >>> p = jinit.mup.infer(drawn(64), drawn(256))
          >>> before, after = drawn(256)["params"], p.init(drawn(256))["params"]
          >>> readout = after["layers_2"]["kernel"]
          >>> bool((readout == 2 * before["layers_2"]["kernel"]).all())
          True
        """
        return rescaled(self.tensors, self.absolute, params, drawn)

    def rules(self, rules: Any) -> list[Any]:
        """Return rules for `jinit.plan` whose initializers have the right std.

        std = (std factor) * (the initializer's std at the base shape).

        Args:
          rules: rules as for `jinit.plan`, with the initializers of the base model.

        Returns:
          Rules with the same patterns, for a plan of the target's shapes.

        Raises:
          TypeError: if the rules are of a wrong type, as for `jinit.plan`.
          ValueError: if the rules do not fit, as for `jinit.plan`; and, when the plan
            is made, if an initializer does not know its std.

        Example:
          >>> import jax, jinit
          >>> def shapes(d):
          ...     return {"readout": jax.ShapeDtypeStruct((d, 10), "float32")}
          >>> p = jinit.mup.infer(shapes(64), shapes(256))
          >>> plan = jinit.plan(shapes(256), p.rules([("**", jinit.lecun())]))
          >>> plan.rows[0]["std"]  # as at the base width: 1 / sqrt(64)
          0.125
        """
        return rescaled_rules(self.tensors, self.absolute, rules)

    def optimizer(
        self,
        tx: Any,
        kind: str | Sequence[tuple[Any, str]] | None = None,
        *,
        decay: str | None = None,
        weight_decay: str = "independent",
        scale_epsilon: bool | None = None,
    ) -> Any:
        """Wrap an Optax transformation: per-tensor rates, decays and epsilons.

        update = f tx(g / e, w / f), where f is the factor of the rate and e that of
        epsilon. With the rate eta and the decay lambda of `tx`, u without decay:

        | decay | update |
        | --- | --- |
        | independent | - f eta u - eta lambda w |
        | per_width | - f eta (u + lambda w) |

        "independent" is AdamW with the rate f eta and the decay lambda / f for each
        tensor: dividing the parameters by f cancels f in the decay alone. If `tx` adds
        the decay to the gradient, this is the rule of MuAdam and MuSGD. Weights forget
        their start after 1 / (eta lambda) steps at every width. The state is that of
        `tx`, so jit, sharding and checkpoints work as before.

        The kind of each update is measured. `tx` is traced at the parameters' own
        shapes, so that labels, masks and factored states that depend on sizes are those
        of the training. It is evaluated on gradients and parameters of equal entries,
        without an array of their size. Updates that depend on the shape (Muon with any
        of its scalings, NovoGrad) are also measured at the base shapes: their spectral
        norm has to grow as sqrt(n_out / n_in). Rates and decays may be traced, as in a
        program that maps over rates.

        Args:
          tx: an Optax transformation with its learning rate or schedule: sgd, adam,
            adamw, lion, adafactor, rmsprop, optax.contrib.muon, chains of them.
          kind: "adam" if the update does not grow with the gradient, "sgd" if it grows
            in proportion, "muon" for orthogonalized updates with Optax's own norm,
            sqrt(max(1, n_out / n_in)); or pairs (pattern, kind) for some tensors. By
            default it is measured. The measurement checks a kind that is named, and
            raises if it clearly shows another. Name it if it cannot be measured: if
            `tx` needs more than gradients and parameters, draws random numbers, uses
            decompositions, is another optimizer at the base shapes, or is Muon with
            adaptive=True, whose updates depend on the rank of the gradient.
          decay: "independent" (by default) or "per_width", as in the table.
          weight_decay: the older `decay`: "independent", or "scaled" for "per_width".
          scale_epsilon: whether Adam's epsilon follows the size of the gradient. It
            divides the gradients, so clipping inside of `tx` sees other norms. By
            default only with CompleteP, which asks for it.

        Returns:
          An `optax.GradientTransformationExtraArgs`.

        Raises:
          TypeError: if `tx` is not an Optax transformation, or `kind` not a kind.
          ValueError: for an unknown kind or rule, a `kind` that differs from the
            measured one, or a `decay` if `tx` decays nothing. The new optimizer's
            `init` raises it for parameters that do not fit, for tensors whose kind
            cannot be measured, and if `tx` cannot be scaled tensor by tensor.

        Example:
          >>> import jax.numpy as jnp, jinit, optax
          >>> base, params = {"w": jnp.ones((4, 4))}, {"w": jnp.ones((16, 16))}
          >>> tx = jinit.mup.infer(base, params).optimizer(optax.adam(0.1))
          >>> updates, _ = tx.update(params, tx.init(params), params)
          >>> round(float(updates["w"][0, 0]), 4)  # 0.1 / 4
          -0.025

        References:
          Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
            hyperparameter transfer", NeurIPS 2021.
          Wang and Aitchison, "How to set AdamW's weight decay as you scale model and
            dataset size", ICML 2025. It keeps eta lambda, as "independent" does.
          Kosson, Welborn, Liu, Jaggi and Chen, "Weight decay may matter more than muP
            for learning rate transfer in practice", arXiv 2025. It finds that rates
            transfer with "independent".
          Yang, Simon and Bernstein, "A spectral condition for feature learning", arXiv
            2023.
        """
        rule = decay_rule(decay, weight_decay)
        # Dey et al. (2025) let epsilon follow the gradient, which the depth divides as
        # well.
        if scale_epsilon is None:
            scale_epsilon = self.depth_rule == "completep"
        return wrapped(self.tensors, tx, kind, rule, scale_epsilon, self.structure)

    def labels(self, params: Any = None, *, skip: Any = ()) -> Any:
        """Return "muon" or "adam" for each tensor, as `optax.multi_transform` takes it.

        Muon takes the matrices inside the model: hidden kernels, experts, routers, all
        heads together, the keys and values of grouped queries, bottlenecks, and
        convolutions. Adam takes embeddings, readouts, layers that read data, norms,
        biases, kernels with one input or one output, and grouped and depthwise
        convolutions. A fused kernel is one matrix, since dimension numbers cannot cut
        an axis. A network shows all of these; shapes show only the hidden kernels.

        Args:
          params: the tree to label, such as `variables["params"]`; by default one like
            the tree that the parametrization was made from.
          skip: patterns of further tensors for Adam, such as "@router".

        Returns:
          A tree of texts; for a tree that can be called, as a module of Equinox, a
          function that returns it, since Optax would call the tree.

        Raises:
          ValueError: if nothing grows in the shapes that the parametrization was made
            from, or `params` or `skip` do not fit.

        Example:
          >>> import jax, jinit
          >>> def shapes(d):
          ...     sizes = {"into": (8, d), "middle": (d, d), "out": (d, 10)}
          ...     return {k: jax.ShapeDtypeStruct(v, "f4") for k, v in sizes.items()}
          >>> jinit.mup.infer(shapes(64), shapes(256)).labels()
          {'into': 'adam', 'middle': 'muon', 'out': 'adam'}

        References:
          Liu et al., "Muon is scalable for LLM training", arXiv 2025. Its Adam has the
            embedding, the readout and the norms alone.
        """
        return labelled(self, params, skip, text_of)

    def muon_dimension_numbers(self, params: Any = None, *, skip: Any = ()) -> Any:
        """Return the axes along which Muon takes each tensor, as Optax has them.

        They are the axes of a matrix's inputs and outputs. All others are batch axes:
        experts, scanned layers.

        Args:
          params: as for `labels`, which says which tensors Muon takes.
          skip: as for `labels`.

        Returns:
          A tree of `optax.contrib.MuonDimensionNumbers`, and of None for Adam; or a
          function that returns it, as for `labels`.

        Raises:
          ValueError: as for `labels`.

        Example:
          >>> import jax, jinit, optax
          >>> def shapes(d):
          ...     return {"query": jax.ShapeDtypeStruct((d, 4, d // 4), "float32")}
          >>> p = jinit.mup.infer(shapes(64), shapes(256))
          >>> dims = p.muon_dimension_numbers()
          >>> dims["query"]
          MuonDimensionNumbers(reduction_axis=(0,), output_axis=(1, 2))
          >>> muon = optax.contrib.muon(1e-2, muon_weight_dimension_numbers=dims)
          >>> tx = p.optimizer(muon)

        References:
          Liu et al., "Muon is scalable for LLM training", arXiv 2025.
        """
        return labelled(self, params, skip, dimension_numbers)

    def __reduce__(self) -> Any:
        return Parametrization.from_dict, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """Return the parametrization as plain data, for JSON.

        Example:
          >>> import jax, json, jinit
          >>> w = {"w": jax.ShapeDtypeStruct((4, 4), "float32")}
          >>> p = jinit.mup.infer(w, w)
          >>> text = json.dumps(p.to_dict())
          >>> jinit.mup.Parametrization.from_dict(json.loads(text)) == p
          True
        """
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        fields |= {"tensors": list(map(config_of, self.tensors))}
        del fields["structure"]
        return {name: plain(value) for name, value in fields.items()}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Parametrization":
        """Return the parametrization that `to_dict` described, also after JSON.

        Raises:
          TypeError: if `config` is not such a description.
        """
        try:
            tensors = tuple(map(tensor_from, config["tensors"]))
            remarks = tuple(config.get("remarks", ()))
            return cls(**{**config, "tensors": tensors, "remarks": remarks})
        except (KeyError, TypeError) as error:
            raise TypeError(
                f"`config` is {config!r}; it must be what p.to_dict() returns."
            ) from error
