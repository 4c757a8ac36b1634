"""A trained network goes out, and one from elsewhere comes in.

weights: params in a file and back, the first file to read. prediction: what is exported of a model;
stablehlo: as a program for JAX; onnx: as a file for other runtimes. torch: params out of a state
dict of PyTorch. huggingface: transformers in folders of Hugging Face's, in and out.
"""
