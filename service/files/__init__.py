"""Files and folders as this service makes them: private to its user, with names that survive a power cut."""
