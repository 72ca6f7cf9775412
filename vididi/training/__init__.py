"""Training: the loop, the context it is written against, checkpoints and run folders. Knows no
Ray.
"""
