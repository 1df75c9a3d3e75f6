"""SASRec with content, the one-stream baseline of TSSR."""
