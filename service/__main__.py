"""``python -m service``."""

if __name__ == "__main__":  # each worker imports this module too, and needs no command line
    from service.cli import main

    main()
