"""Where things are kept: tables by SQLAlchemy, bytes by digest through obstore."""
