"""Several processes that compute what a single process would: process group, launcher, shared memory."""
