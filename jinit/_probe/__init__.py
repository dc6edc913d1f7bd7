"""A model and a batch become a report: how large the signal is in every layer."""
