"""Search for hyper-parameters: proposals, trials as files, a table, a plot, the best configuration."""
