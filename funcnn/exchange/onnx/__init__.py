"""A model as an ONNX file, written from its jaxpr.

export: export_onnx, the first file to read. graph: what is built, without the package onnx. file:
the graph as that package writes it. program: each operation of a jaxpr by its converter, calls and
loops; elementwise, reshaping (reductions and products, too) and windows have these converters.
"""
