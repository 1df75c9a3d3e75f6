"""TSSR: M. Cheng et al., Empowering Sequential Recommendation from Collaborative Signals and
Semantic Relatedness, arXiv 2403.07623."""
