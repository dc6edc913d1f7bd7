"""This package measures the signal and the gradient in every layer of a model."""
