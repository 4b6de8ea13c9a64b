"""Everything that makes parameters better."""
