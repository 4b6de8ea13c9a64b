"""AlexNet and VGG, exactly as in their papers, in JAX."""
