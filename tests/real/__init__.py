"""Files that nobody here made: trained models inside public packages, and the models of peers' own tests."""
