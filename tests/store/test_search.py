"""Full-text search over what spans say, driven through the store's own functions on both databases."""
