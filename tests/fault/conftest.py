"""pytest puts this folder on the import path, so that the tests in its subfolders can import `fault_tools`."""
