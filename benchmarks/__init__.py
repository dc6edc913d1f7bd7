"""The README quotes these measurements; `python -m benchmarks` repeats them."""
