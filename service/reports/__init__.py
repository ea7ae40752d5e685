"""Forms of stored reports: made once, in a process with limits of its own, kept beside the artifact."""

# Raised with every change of a form, so that stored ones of an earlier version are not used.
VERSION = 1
