"""What a training keeps and writes: checkpoints, logs, averages, optimiser state."""
