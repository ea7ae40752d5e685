"""Who visits the pages: signing in, the session cookie, and the account pages."""
