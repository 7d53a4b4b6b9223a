"""Gates: measured evidence against thresholds, before anything is published. A failed gate publishes nothing and keeps what it saw."""
