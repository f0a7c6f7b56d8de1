"""What the functions share; knows nothing of Lambda, the environment, or how clients are made."""

__version__ = "0.1.0"
