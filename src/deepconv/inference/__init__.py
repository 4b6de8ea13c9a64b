"""Apply trained networks to images, whatever the task."""
