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
def _count(event):
    events = []

    def listener(name, *_, **__):
        if name == event:
            events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield lambda: len(events)
    finally:
        jax.monitoring.clear_event_listeners()
