"""Runners: one sandboxed, pre-warmed process per job behind `base.JobRunner`."""
