"""The commands of ``winit-fast``, one a module: each has ``add_arguments(parser)`` and ``run(options)``."""
