"""Do learning rates transfer across width and depth, with jinit.mup and without?"""
