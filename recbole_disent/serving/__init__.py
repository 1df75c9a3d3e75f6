"""From a trained model to recommendations: lists, bundles, pages and a server."""
