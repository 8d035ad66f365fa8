"""Published messages in files, byte for byte, with the times of their receipt."""
