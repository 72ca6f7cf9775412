"""Programs that run from a clone; their code is vididi/analysis, the numbers of the papers are in
papers/.
"""
