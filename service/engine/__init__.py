"""Engines: how a queued job gets to a worker. They carry a job's id and nothing else."""
