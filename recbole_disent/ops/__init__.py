"""Operations on tensors that take most of a training step. They know no model and no configuration."""
