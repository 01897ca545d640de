"""The command line: inspect, train, predict, evaluate, config."""

from sam3_lora.cli import main

if __name__ == "__main__":
    main()
