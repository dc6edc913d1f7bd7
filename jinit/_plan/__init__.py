"""A plan is made from rules and shapes, and draws a tree of parameters."""
