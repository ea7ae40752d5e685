"""`python -m service.cli`: the command without its script on the path."""

from service.cli import main

if __name__ == "__main__":
    main()
