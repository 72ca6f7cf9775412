"""Tables and pictures from run folders alone: neither torch nor Ray is needed to read a result
(saliency.py runs encoders).
"""
