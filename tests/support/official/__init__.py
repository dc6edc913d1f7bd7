"""The laws of official code: a table that tests check and the site shows."""
