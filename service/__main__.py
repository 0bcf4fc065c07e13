"""``python -m service``: the same as the packaged command ``clerk-logout``."""

if __name__ == "__main__":
    from service.cli import main

    main()
