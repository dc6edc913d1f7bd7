"""Shapes give fans, activations give gains, and depths give factors.

All of them are Python numbers.
"""
