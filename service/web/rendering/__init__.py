"""How pages become HTML: the Jinja environment, its filters and icons, scripts and style sheets."""
