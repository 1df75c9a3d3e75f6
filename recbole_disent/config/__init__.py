"""Configuration: RecBole's, with this package's keys, rules, presets and checks."""
