"""`python -m neuraxis`: the command line."""

from neuraxis.training.cli.main import main

if __name__ == "__main__":
    main()
