"""Child processes of a runner: started, kept warm, spoken to."""
