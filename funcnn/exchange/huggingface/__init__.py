"""Folders as Hugging Face's transformers writes them: their weights in, and ours out.

load, save: the two functions, and the first files to read. gpt2, llama, bert: what a config.json
says of each family, and what its arrays are called. families: all, and which one a folder holds.
settings: the keys of a config.json. rows: an array of theirs and its places in ours. stored: the
arrays in the files of a folder. written: a folder that is written whole or not at all.
"""
