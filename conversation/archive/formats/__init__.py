"""The file formats that are imported and exported, one module each."""
