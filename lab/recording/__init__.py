"""A recording of the user's own application: what its calls were made of, where its time went, why
its cache missed, and what would mend it. Pure: no clock, no store, no client."""
