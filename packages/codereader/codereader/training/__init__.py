"""Training of the networks on generated photos: `codereader train`."""
