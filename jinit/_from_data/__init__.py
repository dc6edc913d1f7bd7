"""This package sets a model's parameters from data, by LSUV, AutoInit and others."""
