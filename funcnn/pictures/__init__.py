"""Pictures of a trained network: curves, filters, activations, saliency and occlusion."""
