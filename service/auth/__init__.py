"""Who asks: API keys, scopes, tenants, rate limits."""
