"""Pictures and what denoisers make of them: `python -m bench denoise CONFIG`."""
