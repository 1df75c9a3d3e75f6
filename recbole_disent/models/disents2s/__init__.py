"""DisentS2S: J. Ma et al., Disentangled Self-Supervision in Sequential Recommenders, KDD 2020."""
