"""Pictures of a trained network: curves, filters, activations, saliency and occlusion.

In: a network and images, or a metrics file. Out: figures of matplotlib.

network: the network to be looked at, the first file to read. curves, filters, activations,
saliency, occlusion, maximization: one picture each. panels: small pictures side by side. style:
colours, letters, and how a picture is written.
"""
