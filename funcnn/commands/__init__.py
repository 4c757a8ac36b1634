"""What the command line does: results go to stdout, everything else to stderr."""
