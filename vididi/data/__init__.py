"""Data: sources of videos, preparation into shards, plans of batches, and streams of them. No torch
anywhere in here.
"""
