"""The file formats for import and export, one module each."""
