"""Programs that run from a clone.

Their code is vididi/analysis, the numbers of the papers are in papers/.
"""
