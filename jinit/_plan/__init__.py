"""Rules and shapes become a plan, and the plan draws a tree of parameters."""
