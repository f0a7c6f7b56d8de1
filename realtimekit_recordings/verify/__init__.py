"""Checks of a deployed stack, which only a real account can prove; each says what to do."""
