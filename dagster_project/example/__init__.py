"""The example: a public fashion catalogue built from Fashion-MNIST."""
