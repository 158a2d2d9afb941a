"""A family to begin with: `repository.write` makes a repository of it, and `minimal/` is the one that core brings."""
