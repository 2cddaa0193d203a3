"""What a run found, told: one file for each way of telling."""
