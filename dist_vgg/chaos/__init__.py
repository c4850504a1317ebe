"""Breaking training on purpose: every kind of fault, at every moment of a step."""
