"""Import weights from other frameworks, and export them; see docs/weights.md.

deepconv weights import vgg16-397923af.pth vgg16.safetensors
deepconv weights export vgg16.safetensors vgg16_torch.safetensors --format=torchvision
"""
