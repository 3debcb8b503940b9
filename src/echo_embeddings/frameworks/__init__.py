"""What the integrations share: the encoder behind a framework's object, and arguments that other classes have."""
