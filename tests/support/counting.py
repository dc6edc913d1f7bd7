"""Count the traces and the compilations of JAX."""

import contextlib

import jax


def count_compilations():
    """Count the compilations of XLA inside the block; yield the counter."""
    return _count("/jax/core/compile/backend_compile_duration")


def count_traces():
    """Count the functions that JAX traces inside the block; yield the counter."""
    return _count("/jax/core/compile/jaxpr_trace_duration")


@contextlib.contextmanager
def compiled_programs():
    """Yield a list that gets the name of each program that XLA compiles inside."""
    with _named("/jax/core/compile/backend_compile_duration") as names:
        yield names


@contextlib.contextmanager
def _count(event):
    with _named(event) as names:
        yield lambda: len(names)


@contextlib.contextmanager
def _named(event):
    names = []

    def listener(name, *_, fun_name="", **__):
        if name == event:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield names
    finally:
        jax.monitoring.clear_event_listeners()
