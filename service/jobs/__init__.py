"""Jobs: what they are, how their state moves, and what can be done with them."""
