"""Errors whose message is meant for the user: it names the field, the value and what is allowed."""

INTERRUPTED = 130  # exit status, as of a shell's command after Ctrl-C


class VididiError(Exception):
    """Any error that the command line prints as one message, without a traceback."""


class ConfigError(VididiError):
    """A configuration or a sweep file that cannot be run as written."""


class DataError(VididiError):
    """Videos or prepared shards that are missing, unreadable or do not fit the configuration."""


class ResourceError(VididiError):
    """More workers, CPUs or GPUs asked for than there are."""


class TrainingError(VididiError):
    """A run that must stop: a loss that is not finite, a checkpoint that does not fit."""


class HeldError(TrainingError):
    """A run folder in which another process is at work. Nothing is wrong with it."""


class DamagedError(DataError):
    """A file that is there and cannot be what was written: empty, cut, of another form. The message
    begins with its path.
    """


class NotFiniteError(TrainingError, ValueError):
    """Scores, features or weights that are NaN or infinite, which no measure has a value for."""
