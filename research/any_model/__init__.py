"""What is best for a language model without labels: experiments behind ``tune`` and the recipes of other models."""
