"""`python -m resnet_cli` is `resnet`."""

from resnet_cli.cli.app import main

if __name__ == "__main__":
    main()
