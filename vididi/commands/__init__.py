"""What the commands over a sweep do: ``vididi sweep``, ``status``, ``extend``, ``rerun`` and
``compare``, and run_sweep.py.
"""
