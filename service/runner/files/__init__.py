"""A runner's folders: made, filled, emptied and removed."""
