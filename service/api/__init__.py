"""HTTP: routes translate, they do not decide."""
