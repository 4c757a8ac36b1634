"""Models: compositions of layers, no mathematics of their own.

image: perceptrons and small convolutional networks. resnet: residual networks. unet: a class for
each pixel. autoencoder, vae: through a code and back. char_rnn, transformer: what comes next.
bert: what is missing in a text; vit: what is in an image.
shared: options.
"""

from funcnn.models.autoencoder import autoencoder as autoencoder
from funcnn.models.bert import bert as bert
from funcnn.models.char_rnn import char_rnn as char_rnn
from funcnn.models.image import lenet as lenet
from funcnn.models.image import mlp as mlp
from funcnn.models.resnet import resnet18 as resnet18
from funcnn.models.resnet import resnet50 as resnet50
from funcnn.models.transformer import gpt as gpt
from funcnn.models.transformer import llama as llama
from funcnn.models.unet import unet as unet
from funcnn.models.vae import vae as vae
from funcnn.models.vit import vit as vit
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
