"""Fixed descriptors of a network and linear classifiers on them (VGG appendix B)."""
