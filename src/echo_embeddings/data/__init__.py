"""The files that people have: tables of texts, parquet, prose and code cut into passages, resumable checkpoints.

Knows no model, no vectors' meaning and no torch.
"""
