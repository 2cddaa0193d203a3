"""A demo agent, and whether the cause of each miss planted in it is named."""
