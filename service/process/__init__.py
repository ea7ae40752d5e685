"""The process as a whole: its limits, its threads, and faults of the machine."""
