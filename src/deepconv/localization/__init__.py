"""Localization (VGG appendix A): from boxes at every place of a map to one box of each class."""
