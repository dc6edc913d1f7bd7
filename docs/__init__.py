"""The documentation site: pages in Markdown, and the hooks that build it."""
