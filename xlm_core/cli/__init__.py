"""The `xlm` command: one file for each group of commands. Nothing heavy is imported before a command needs it."""
