"""A model and a batch give a report of the size of the signal in every layer."""
