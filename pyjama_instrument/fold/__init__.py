"""The fold: (document, events) → document. Pure. One module for each section of the document."""
