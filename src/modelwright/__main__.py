"""`python -m modelwright` is the same command as `modelwright`."""

from modelwright.cli.app import main

if __name__ == "__main__":
    main()
