"""The rights of persons: erasure, access, limits of keeping, and the check of what a project does with people's data."""
