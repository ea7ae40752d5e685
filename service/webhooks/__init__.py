"""Telling others that a job has ended: Standard Webhooks signatures, retries, a log, no private targets."""
