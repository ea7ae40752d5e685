"""Measurements of bnfold beside its peers, on networks that are built here. `python -m bench --help`."""
