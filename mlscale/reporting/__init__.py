"""Results as documents: what is said, with its numbers, and its renderings for terminal, Markdown and HTML."""
