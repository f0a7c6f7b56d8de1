"""Checks of a deployed stack: what only a real account can prove, in words that say what to do."""
