"""Figures of networks and their predictions."""
