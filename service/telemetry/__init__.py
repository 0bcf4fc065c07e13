"""What the service says about itself: metrics, and diagnostics on stderr."""
