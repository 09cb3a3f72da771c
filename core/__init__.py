"""What a person is like: data, features, segments, scores, recommendations. No HTTP, no ESP, no wall clock."""
