"""Where images come from: each source opens records by number."""
