"""Pictures of networks and of what they say."""
