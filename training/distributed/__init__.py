"""Who collects and who learns: this process, or Ray actors."""
