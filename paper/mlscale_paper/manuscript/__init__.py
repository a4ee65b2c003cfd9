"""`make paper`: the published runs as one document. `build` sets it, `figures` draws, `numbers` links every number."""
