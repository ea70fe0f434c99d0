"""``python -m tetrad`` is the ``tetrad`` command."""

from tetrad.cli.main import main

raise SystemExit(main())
