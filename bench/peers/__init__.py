"""Other load clients against the lab's, on one server whose emission is known:
`python -m bench.peers`."""
