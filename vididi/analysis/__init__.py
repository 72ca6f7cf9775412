"""Tables and pictures from run folders alone.

Neither torch nor Ray is needed to read a result; saliency.py alone runs encoders.
"""
