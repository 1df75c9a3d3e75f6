"""Search for hyper-parameters; a search proposes, runs and stores trials and reports the best one."""
