"""RecBole's configuration, extended by the keys, rules, presets and checks of this package."""
