"""A model and a batch become better parameters: LSUV, AutoInit, GradInit and others."""
