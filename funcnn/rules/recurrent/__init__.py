"""Recurrent nets: whole sequences, backwards through time.

In: sequences [batch, steps, features], a first state, weights, lengths. Out: states of all steps.

rnn: the simplest, the first file to read. lstm, gru: with gates. steps: what they share, the
products over all steps at once and the steps that a shorter sequence does not have.
"""
