"""Training: RecBole's loop with safe checkpoints, averages of the weights and one evaluation."""
