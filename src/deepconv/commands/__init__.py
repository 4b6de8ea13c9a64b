"""The commands: flags, then one call. Nothing imports from here."""
