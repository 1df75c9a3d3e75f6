"""Several processes that compute what one would: process group, launcher, shared memory."""
