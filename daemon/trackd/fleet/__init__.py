"""Several daemons as one: who owns a stream, the log that every member can read, and where a stream is placed."""
