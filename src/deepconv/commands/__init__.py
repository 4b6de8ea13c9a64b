"""The commands: each defines its flags and makes one call. No other package imports from here."""
