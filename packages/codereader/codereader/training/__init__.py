"""Training of the application's networks on generated photos: `mlscale train`."""
