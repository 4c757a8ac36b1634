"""Layers: rules with their parameters. This page is their table of contents.

linear: dense and convolutions, the first file to read. embedding: rows of a table. activation,
pooling, shape: no parameters. normalization: scale and bias. recurrent: whole sequences;
recurrent_stack: layers of them one after the other, each with its own carry; bidirectional: both of
their directions. tokens: the entrance of a transformer, and places; attention: places that look at
one another; transformer: the block.
parameters: the dtype in which they are made.
"""

from funcnn.layers.activation import elu as elu
from funcnn.layers.activation import gelu as gelu
from funcnn.layers.activation import leaky_relu as leaky_relu
from funcnn.layers.activation import log_softmax as log_softmax
from funcnn.layers.activation import relu as relu
from funcnn.layers.activation import sigmoid as sigmoid
from funcnn.layers.activation import silu as silu
from funcnn.layers.activation import softmax as softmax
from funcnn.layers.activation import softplus as softplus
from funcnn.layers.activation import tanh as tanh
from funcnn.layers.attention import attend as attend
from funcnn.layers.attention import self_attention as self_attention
from funcnn.layers.bidirectional import bidirectional as bidirectional
from funcnn.layers.embedding import embedding as embedding
from funcnn.layers.linear import conv as conv
from funcnn.layers.linear import conv_transposed as conv_transposed
from funcnn.layers.linear import dense as dense
from funcnn.layers.normalization import batch_norm as batch_norm
from funcnn.layers.normalization import group_norm as group_norm
from funcnn.layers.normalization import instance_norm as instance_norm
from funcnn.layers.normalization import layer_norm as layer_norm
from funcnn.layers.normalization import rms_norm as rms_norm
from funcnn.layers.pooling import average_pool as average_pool
from funcnn.layers.pooling import global_average_pool as global_average_pool
from funcnn.layers.pooling import global_max_pool as global_max_pool
from funcnn.layers.pooling import max_pool as max_pool
from funcnn.layers.recurrent import gru as gru
from funcnn.layers.recurrent import lstm as lstm
from funcnn.layers.recurrent import rnn as rnn
from funcnn.layers.recurrent_stack import stack_recurrent as stack_recurrent
from funcnn.layers.shape import dropout as dropout
from funcnn.layers.shape import flatten as flatten
from funcnn.layers.tokens import class_token as class_token
from funcnn.layers.tokens import places as places
from funcnn.layers.tokens import sinusoids as sinusoids
from funcnn.layers.tokens import tokens as tokens
from funcnn.layers.transformer import transformer_block as transformer_block
from funcnn.names import reexported as _reexported

__all__ = _reexported(__file__)
