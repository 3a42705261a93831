"""The commands: argv → settings → graph → exit code. Heavy parts are imported after the arguments are understood."""
