"""These programs show jinit at work; run one as `python -m examples.NAME`."""
