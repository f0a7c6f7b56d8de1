"""The code that the functions share, without Lambda, the environment, or the making of clients."""

__version__ = "0.1.0"
