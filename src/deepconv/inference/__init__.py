"""What a trained network computes for images, whatever the task."""
