"""Starts the command line: python -m sam3_lora."""

from sam3_lora.cli.app import main

if __name__ == "__main__":
    main()
