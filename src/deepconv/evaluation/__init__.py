"""Errors, and the test protocols that measure them."""
