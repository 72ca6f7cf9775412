"""A run folder: its files and their readers, what became of the run, the same in an object store.
docs/storage.md.
"""
