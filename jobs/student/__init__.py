"""The cheap labeller: TF-IDF and sentence embeddings under calibrated linear models."""
