"""What each code means, in the words of `bnfold explain`: one table a module."""
