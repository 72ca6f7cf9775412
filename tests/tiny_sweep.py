"""What the sweep files of several tests share: a cell that trains in a second."""

BASE = """
base:
  data: {name: motion, train: 24, test: 12, size: 32, frames: 24}
  prepare: {short_side: 16}
  clip: {frames: 4, stride: 2, size: 16}
  objective: {name: vicreg, hidden: 16, out: 16}
  backbone: {name: r3d_tiny, width: 2}
"""
